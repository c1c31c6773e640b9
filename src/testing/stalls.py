"""Waits that nothing will end, and how to say so."""

from __future__ import annotations

from functools import cache

from outlast.core.waiting import Overview, WaitingFor, WaitingKind


class Stalled(AssertionError):
    """A test waits for something that cannot come: nothing is due, at no time."""


@cache
def waits_in(overview: str | None) -> tuple[WaitingFor, ...]:
    """Return what an execution waits for, from what its worker has written for those who look at it."""
    return Overview.of(overview).waiting_for


def in_words(waiting: WaitingFor) -> str:
    """Return what an execution waits for, in words."""
    match waiting.kind:
        case WaitingKind.SIGNAL:
            return "a message, such as a signal"
        case WaitingKind.CONDITION:
            return "a condition that no message can change"
        case WaitingKind.APPROVAL:
            return f"an approval of {waiting.text}"
        case WaitingKind.ANSWER:
            return f"an answer to {waiting.text!r}"
        case kind:
            return f"{kind.value} {waiting.text}".strip()
