"""The things that an open execution waits for, in one closed vocabulary, and figures for a list.

A worker writes an `Overview` beside its appends, as text that a store does not read. So `describe` and `list`
show what is going on in an execution without its journal, its code or its worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import Any

from pydantic import TypeAdapter, ValidationError

from outlast.core.json import encode, quickly_encoded, with_whole_characters
from outlast.core.records import AnyRecord
from outlast.core.reruns import counted
from outlast.core.usage import Usage
from outlast.core.workflow_machine import OpenStep, WorkflowMachine, skimmed

OVERVIEW_BYTES_MAX = 2_000
"""The most bytes that the text of an overview takes."""
AGENT_CHARACTERS_MAX = 200
WAITS_MAX = 8
"""The most waits that an overview names; the most important ones come first."""


class WaitingKind(StrEnum):
    """The sort of thing that an execution waits for, the most important first."""

    HELD = "held"
    """Somebody must mend its cause, and resume it."""
    PAUSED = "paused"
    """Somebody must resume it."""
    CODE = "code"
    """A worker must come whose code fits the journal: that of the last one departs from it."""
    WORKER = "worker"
    """A worker must take it."""
    APPROVAL = "approval"
    """Somebody must decide about a tool call."""
    ANSWER = "answer"
    """Somebody must answer a question."""
    ATTEMPT = "attempt"
    """The first attempt at a step is under way, or begins when a worker has room for it."""
    RETRY = "retry"
    """An attempt has failed or was lost; the next begins, or has begun, at `until`."""
    CHILD = "child"
    """A child must end; `step` is its id."""
    TIMER = "timer"
    """A timer fires at `until`."""
    SIGNAL = "signal"
    """Its code can go on only after a message, such as a signal."""
    CONDITION = "condition"
    """Its code waits for a condition, and no message changes anything."""


CODE_DEPARTS = "that of the last worker departs from the journal"
"""The text of a wait for `CODE`."""


def pause_in_words(reason: str | None) -> str:
    """Return why an execution does not go on that somebody has paused."""
    return "paused" if reason is None else f"paused: {reason}"


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """One thing that an execution waits for; times are timezone-aware (UTC)."""

    kind: WaitingKind
    text: str = ""
    """The name of the step or the tool, or a reason."""
    step: str | None = None
    """The key of the step or the question, or the id of the call that needs approval."""
    attempt: int | None = None
    """The number of the attempt, from 1."""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """The facts about one execution that a list shows."""

    waiting_for: tuple[WaitingFor, ...] = ()
    """The things that it waits for, the most important first; none after its end."""
    turns: int = 0
    usage: Usage = field(default_factory=Usage)
    forked_from: str | None = None
    agent: str | None = None
    """The agent whose turn began last; a long name is cut."""
    parent: str | None = None
    """The id of the execution that it is a child of."""

    def to_text(self) -> str:
        """Return the overview as text of at most `OVERVIEW_BYTES_MAX` bytes; last waits may be missing."""
        data: dict[str, Any] = {}
        if self.turns:
            data["turns"] = self.turns
        if self.usage != Usage():
            data["usage"] = self.usage.to_data()
        if self.forked_from is not None:
            data["forked_from"] = self.forked_from
        if self.parent is not None:
            data["parent"] = self.parent
        if self.agent is not None:
            data["agent"] = self.agent[:AGENT_CHARACTERS_MAX]
        rows = [_row(one) for one in self.waiting_for[:WAITS_MAX]]
        while True:
            shown = {**data, "waiting_for": rows} if rows else data
            written = quickly_encoded(shown) or encode(with_whole_characters(shown))
            if len(written) <= OVERVIEW_BYTES_MAX:
                return written.decode()
            if rows:
                rows.pop()
            else:  # Connectors may have any number of names, and ids may be long.
                data.pop(next(name for name in ("usage", "forked_from", "agent", "parent") if name in data))

    @classmethod
    def of(cls, text: str | None) -> Overview:
        """Return the overview that `to_text` wrote; an empty one for no text, or that of a later release."""
        try:
            found: Overview = _overview.validate_json(text or "{}")
        except ValidationError:
            return cls()
        return found


_overview: TypeAdapter[Overview] = TypeAdapter(Overview)


def overview_of(machine: WorkflowMachine, *, takes_messages: bool = False) -> Overview:
    """Return the overview of an execution, from the machine that has taken its records."""
    tally = machine.tally
    waits = () if machine.end is not None else tuple(_waits_of(machine, takes_messages))
    return Overview(waits, tally.turns, tally.usage, tally.forked_from, tally.agent, tally.parent)


def overview_in(records: Sequence[AnyRecord], *, takes_messages: bool = False) -> Overview:
    """Return the overview of an execution from its records, without its code.

    Steps and timers that the code no longer waits for are among those that it waits for.
    """
    return overview_of(skimmed(counted(records).records), takes_messages=takes_messages)


def _waits_of(machine: WorkflowMachine, takes_messages: bool) -> Iterator[WaitingFor]:
    is_alone = True
    for approval in machine.tally.approvals.values():
        is_alone = False
        text = f"tool {approval.tool} of agent {approval.agent}"
        yield WaitingFor(WaitingKind.APPROVAL, text, approval.call_id, since=time_of(approval.since))
    for key, question in machine.tally.questions.items():
        is_alone = False
        yield WaitingFor(WaitingKind.ANSWER, question.question, key, since=time_of(question.since))
    first = sorted(machine.steps.items(), key=lambda item: item[1].attempt > 1)
    for key, opened in first:
        is_alone = False
        yield _attempt_at(key, opened, machine.tally.asked_at.get(key))
    for key, child in islice(machine.children.items(), WAITS_MAX):  # There may be a thousand.
        is_alone = False
        since = machine.tally.asked_at.get(key)
        yield WaitingFor(
            WaitingKind.CHILD,
            f"child {child.scheduled.name}",
            child.id or key,
            since=None if since is None else time_of(since),
        )
    for key, due in sorted(machine.timers.items(), key=lambda item: (item[1], item[0])):
        is_alone = False
        yield WaitingFor(WaitingKind.TIMER, step=key, until=time_of(due))
    if is_alone:
        yield WaitingFor(WaitingKind.SIGNAL if takes_messages else WaitingKind.CONDITION)


def _attempt_at(key: str, opened: OpenStep, asked_at: float | None) -> WaitingFor:
    since = None if asked_at is None else time_of(asked_at)
    name = opened.scheduled.name
    if opened.attempt == 1:
        return WaitingFor(WaitingKind.ATTEMPT, name, key, 1, since)
    until = time_of(opened.retry_at) if opened.retry_at else None
    return WaitingFor(WaitingKind.RETRY, name, key, opened.attempt, since, until)


def time_of(seconds: float) -> datetime | None:
    """Return a time since the epoch as people see it; None for one that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OSError, OverflowError, ValueError):
        return None


def _row(one: WaitingFor) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": one.kind.value}
    if one.text:
        row["text"] = one.text[:100]
    if one.step is not None:
        row["step"] = one.step
    if one.attempt is not None:
        row["attempt"] = one.attempt
    if one.since is not None:
        row["since"] = one.since.isoformat()
    if one.until is not None:
        row["until"] = one.until.isoformat()
    return row
