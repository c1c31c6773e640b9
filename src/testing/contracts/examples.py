"""The number of examples of a property test, and other settings of Hypothesis for the suites."""

from __future__ import annotations

import math

from hypothesis import HealthCheck, settings

USUAL_EXAMPLES = 100

SUPPRESSED = (
    # A suite is one class that several adapters inherit, so its tests have several executors.
    HealthCheck.differing_executors,
    # Its examples talk to servers, files and processes, on machines that may be busy.
    HealthCheck.too_slow,
)


def few_examples(number: int, *, in_one_place: bool = False) -> settings:
    """Return settings for a property whose examples are slow: `number` of them in an ordinary run.

    A profile that asks for more than the usual 100 examples, such as a nightly one, gets as many as it asks;
    one that asks for fewer gets as small a part of `number`, and one example at least.
    Set `in_one_place` for a property whose examples share a fixture of the test on purpose.
    """
    asked = settings()
    examples = asked.max_examples
    part = math.ceil(number * examples / USUAL_EXAMPLES)
    return settings(
        max_examples=part if examples <= USUAL_EXAMPLES else examples,
        deadline=None,
        suppress_health_check=(
            *asked.suppress_health_check,
            *SUPPRESSED,
            *([HealthCheck.function_scoped_fixture] * in_one_place),
        ),
    )
