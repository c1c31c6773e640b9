"""Searching a catalogue of tools by keywords: the same words find the same tools, in the same order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from outlast.core.agents import ToolSpec

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_IN_NAME, _IN_DESCRIPTION, _IN_PARAMETERS = 6, 2, 1
"""The weights of a word, by the place where it stands."""
_FAR_BETTER = 10
_STEM = 4
"""The characters from which on the beginning of a word counts as the word, half as much."""


def ranked(query: str, tools: Sequence[ToolSpec]) -> tuple[str, ...]:
    """Return the names of the tools that have words of `query`, the best first.

    A word counts more in a name than in a description or among the parameters, and more if few tools have it.
    Tools that are equally good stay in their order. Tools to which the best one is far better are not found:
    they only have words that most tools have.
    """
    wanted = dict.fromkeys(_words(query))
    weighed = [_weights(tool) for tool in tools]
    frequency = Counter(word for weights in weighed for word in weights)
    scores = [
        sum(
            _likeness(one, word) * weight * len(tools) // frequency[word]
            for one in wanted
            for word, weight in weights.items()
        )
        for weights in weighed
    ]
    least = max(scores, default=0) // _FAR_BETTER
    order = sorted(range(len(tools)), key=lambda position: -scores[position])
    return tuple(tools[position].name for position in order if scores[position] > least)


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(_HUMP.sub(" ", text))]


def _weights(tool: ToolSpec) -> dict[str, int]:
    """Return the words of a tool, each with the weight of the best place where it stands."""
    properties = tool.parameters.get("properties")
    parameters: Iterable[str] = properties if isinstance(properties, dict) else ()
    weights: dict[str, int] = {}
    for weight, texts in (
        (_IN_PARAMETERS, parameters),
        (_IN_DESCRIPTION, (tool.description,)),
        (_IN_NAME, (tool.name,)),
    ):
        weights |= {word: weight for text in texts for word in _words(text)}
    return weights


def _likeness(wanted: str, word: str) -> int:
    if wanted == word:
        return 4
    shorter, longer = sorted((wanted, word), key=len)
    return 2 if len(shorter) >= _STEM and longer.startswith(shorter) else 0
