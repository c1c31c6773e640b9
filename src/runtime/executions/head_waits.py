"""The things that an execution waits for, by its head and the workers alive: nobody reads a journal."""

from __future__ import annotations

from collections.abc import Sequence

from outlast.core.records import Status
from outlast.core.waiting import CODE_DEPARTS, Overview, WaitingFor, WaitingKind
from outlast.ports.journal import Head, PresentWorker

_FROM_OUTSIDE = frozenset(
    {WaitingKind.APPROVAL, WaitingKind.ANSWER, WaitingKind.SIGNAL, WaitingKind.CONDITION}
)
"""The waits that end by a message, if they end. Until it comes, the execution needs no worker."""


def needs_worker(head: Head) -> bool:
    """Return whether `waiting_for` has to know the workers that are alive."""
    return head.status is Status.RUNNING and not head.held


def waiting_for(head: Head, overview: Overview, alive: Sequence[PresentWorker]) -> tuple[WaitingFor, ...]:
    """Return what an execution waits for, the most important first."""
    if head.status is not Status.RUNNING:
        return ()
    waits = overview.waiting_for
    if head.held:
        kind = WaitingKind.PAUSED if head.waiting == WaitingKind.PAUSED else WaitingKind.HELD
        return WaitingFor(kind, head.reason or ""), *waits
    if head.waiting == WaitingKind.CODE:
        return WaitingFor(WaitingKind.CODE, CODE_DEPARTS), *waits
    cards = [worker.card for worker in alive]
    is_served = any(head.task_queue == card.task_queue and head.workflow in card.workflows for card in cards)
    if not is_served and not _rests(head, waits):
        queue = f"no live worker runs workflow {head.workflow!r} of task queue {head.task_queue!r}"
        return WaitingFor(WaitingKind.WORKER, queue), *waits
    if not waits and head.owner is None:
        return (WaitingFor(WaitingKind.WORKER, "a worker takes it as soon as it has room"),)
    return waits


def _rests(head: Head, waits: Sequence[WaitingFor]) -> bool:
    """Return whether nothing is to be done before a message comes."""
    return head.owner is None and bool(waits) and all(wait.kind in _FROM_OUTSIDE for wait in waits)
