"""How many examples a property test tries."""

from __future__ import annotations

from hypothesis import settings

USUAL_EXAMPLES = 100


def few_examples(number: int) -> settings:
    """Return settings for a property whose examples are slow: `number` of them in an ordinary run.

    A profile that asks for more than the usual 100 examples, such as a nightly one, gets as many as it asks.
    """
    asked = settings().max_examples
    return settings(max_examples=number if asked <= USUAL_EXAMPLES else asked)
