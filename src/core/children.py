"""Children: executions that the code of another one has started, and waits for.

A child is a step of its parent. Its id is made from the id of the parent and the key of the step, so a parent
that is replayed, or taken over after a crash, finds the child that it has started, and never starts a second
one. The parent gets two inputs for it: that the child exists (`ChildStarted`), and how it ended.

When the parent ends before the child, the child is cancelled, terminated, or left alone. A retry of the
parent then starts another child for the step, with a number behind the id; so it does for a child that
failed. A child that was left alone is the same one afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from outlast.core.records import StepScheduled

OnParentEnd = Literal["cancel", "terminate", "abandon"]
"""The things that can happen to a child when its parent ends."""

GIVEN_ID = "id"
QUEUE = "task_queue"
ON_PARENT_END = "on_parent_end"
"""The fields of `StepScheduled.about` that say how a child is started."""


@dataclass(slots=True)
class OpenChild:
    """A child that has not ended, as far as its parent knows."""

    scheduled: StepScheduled
    id: str | None = None
    """The id of the child; None until the parent knows that it exists."""
    number: int = 0
    """The number of children that were started for the step before, and have ended."""

    def reopen(self, *, has_failed: bool) -> None:
        """Note that the parent goes on after its end."""
        if has_failed or ends_with_parent(self.scheduled):
            self.lose()

    def lose(self) -> None:
        """Note that nothing can be known of the child any more, so another one takes its place."""
        self.id = None
        self.number += 1

    def begin_anew(self) -> None:
        """Note that the parent is a copy, which has children of its own."""
        self.id, self.number = None, 0

    def id_in(self, parent: str, *, is_fork: bool) -> str:
        """Return the id of the child in the execution with the id `parent`."""
        return self.id or child_id(parent, self.scheduled, self.number, is_fork=is_fork)


def child_id(parent: str, scheduled: StepScheduled, number: int = 0, *, is_fork: bool = False) -> str:
    """Return the id of the child that a step of `parent` starts, after so many children of the same step.

    The child of a fork never has the id that code has given, because the child of the original has it.
    """
    key, given = scheduled.idempotency_key, scheduled.about.get(GIVEN_ID)
    if isinstance(given, str):
        key = f"{given}{key.removeprefix(scheduled.key)}"
    made = key if isinstance(given, str) and not is_fork else f"{parent}/{key}"
    return f"{made}~{number}" if number else made


def ends_with_parent(scheduled: StepScheduled) -> bool:
    """Return whether the child ends when its parent does."""
    return scheduled.about.get(ON_PARENT_END) != "abandon"


def left_behind(
    children: Iterable[OpenChild], parent: str, *, is_fork: bool
) -> Iterator[tuple[str, OnParentEnd]]:
    """Yield the ids of the children that end with their parent, each with what is to happen to it."""
    for child in children:
        if ends_with_parent(child.scheduled):
            is_terminated = child.scheduled.about.get(ON_PARENT_END) == "terminate"
            yield child.id_in(parent, is_fork=is_fork), "terminate" if is_terminated else "cancel"
