"""How many examples a property test tries."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

USUAL_EXAMPLES = 100


def few_examples(number: int, *, in_one_place: bool = False) -> settings:
    """Return settings for a property whose examples are slow: `number` of them in an ordinary run.

    A profile that asks for more than the usual 100 examples, such as a nightly one, gets as many as it asks.
    Say `in_one_place` of a property whose examples share a fixture of the test on purpose.
    """
    asked = settings()
    suppressed = (*asked.suppress_health_check, *([HealthCheck.function_scoped_fixture] * in_one_place))
    return settings(
        max_examples=number if asked.max_examples <= USUAL_EXAMPLES else asked.max_examples,
        suppress_health_check=suppressed,
    )
