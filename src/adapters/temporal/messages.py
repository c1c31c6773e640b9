"""The payload of signals, queries and updates: arguments by position and by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outlast.core.json import JSON

TAG_SIGNAL = "outlast.tag"
"""The signal that changes tags, given by name; it is for the driver, and code does not get it."""


def signal_id(histories: int, number: int) -> str:
    """Return the id of a signal of an execution: the `number`-th of the history that comes after so many.

    Whoever reads the signal has the same id: the code of the workflow, and a reader of the history.
    """
    return f"signal:{histories}.{number}" if histories else f"signal:{number}"


def sent(arguments: Sequence[JSON], named: Mapping[str, JSON]) -> dict[str, Any]:
    """Return the payload for the arguments of a signal, a query or an update."""
    return {"outlast": {"arguments": list(arguments), "named": dict(named)}}


def read_sent(values: Sequence[Any]) -> tuple[Sequence[JSON], Mapping[str, JSON]]:
    """Return positional and named arguments: of our own senders, which name them, or of `temporal signal`."""
    match values:
        case [{"outlast": {"arguments": list(arguments), "named": dict(named)}}]:
            return arguments, named
    return values, {}
