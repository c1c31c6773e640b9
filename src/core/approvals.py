"""Approvals: a person's decision about one tool call, bound to what that person was shown.

A call that waits is found in the event stream, which is the same on every backend: its approval was
requested, and since then the call was neither decided nor ended with its run. A decision carries the call's
place in the execution and a fingerprint of agent, tool and arguments, so it can never count for another call,
or for the same one with other arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError

from outlast.core.argument_schema import faults_in
from outlast.core.errors import (
    AlreadyDecided,
    DefinitionError,
    InvalidArguments,
    NotPending,
    Unserialisable,
)
from outlast.core.events import (
    EXECUTION_ENDS,
    AnyEventData,
    ApprovalDeniedData,
    ApprovalGivenData,
    ApprovalRequestedData,
    ResultUnsentData,
)
from outlast.core.json import JSON, kept
from outlast.core.step_keys import call_key
from outlast.core.values import Value, faults

DECISION_SIGNAL = "outlast.decision"
"""The name under which a decision is sent to an execution, among its signals."""

Verdict = Literal["allow", "deny"]


class PendingApproval(Value):
    """A tool call that waits for a person; it was not made yet."""

    key: str
    """Its place in the execution, different from that of any other call."""
    call_id: str
    """The id that the model gave it; two runs of an execution might use the same."""
    agent: str
    tool: str
    arguments: dict[str, JSON]
    fingerprint: str
    """A hash that is equal only for the same agent, tool and arguments."""
    parameters: dict[str, JSON] = Field(default_factory=dict)
    """The JSON schema of the arguments; empty if it is not known, because the server runs the tool."""


class Decision(Value):
    """The decision about the call at `key`, as it was shown."""

    key: str
    fingerprint: str
    verdict: Verdict
    reason: str | None = None
    edited_arguments: dict[str, JSON] | None = None
    by: str | None = None
    """The person who decided, in the words of the sender."""


@dataclass(frozen=True, slots=True)
class DecidedCall:
    """A call that needs no other decision; a worker may still have to take the one there is."""

    key: str
    call_id: str
    verdict: Verdict
    by: str | None


@dataclass(frozen=True, slots=True)
class AskedCalls:
    """The calls of an execution that needed a person, in the order of the requests and of the decisions."""

    waiting: tuple[PendingApproval, ...] = ()
    decided: tuple[DecidedCall, ...] = ()


class Decisions:
    """The decisions that an execution was sent, and that no call has taken."""

    def __init__(self) -> None:
        self._sent: dict[tuple[str, str], list[Decision]] = {}

    def keep(self, decision: Decision) -> None:
        """Keep a decision until its call waits for it."""
        self._sent.setdefault((decision.key, decision.fingerprint), []).append(decision)

    def take(self, key: str, fingerprint: str, fits: Callable[[Decision], bool]) -> Decision | None:
        """Return the first decision on the call that fits, if there is one; those before it are dropped."""
        sent = self._sent.get((key, fingerprint), [])
        while sent:
            if fits(one := sent.pop(0)):
                return one
        return None

    def awaited(self, key: str, fingerprint: str, fits: Callable[[Decision], bool]) -> AwaitedDecision:
        """Return the place for the decision on a call that waits."""
        return AwaitedDecision(self, key, fingerprint, fits)


@dataclass(slots=True)
class AwaitedDecision:
    """The place for the decision on one call: the first that fits."""

    _decisions: Decisions
    _key: str
    _fingerprint: str
    _fits: Callable[[Decision], bool]
    _taken: Decision | None = None

    def has_come(self) -> bool:
        """Return whether the decision is there; it is taken then, and no other call gets it."""
        if self._taken is None:
            self._taken = self._decisions.take(self._key, self._fingerprint, self._fits)
        return self._taken is not None

    @property
    def taken(self) -> Decision:
        """The decision, once it `has_come`."""
        assert self._taken is not None
        return self._taken


def read_decision(named: Mapping[str, JSON]) -> Decision:
    """Return the decision in a signal's arguments.

    Raises:
        InvalidArguments: they are not a decision.
    """
    try:
        return Decision.model_validate(dict(named))
    except ValidationError as error:
        raise InvalidArguments(DECISION_SIGNAL, faults(error)) from error


def decision_in(name: str, named: Mapping[str, JSON]) -> Decision | None:
    """Return the decision that a signal brings; None if it is another signal, or does not count."""
    if name != DECISION_SIGNAL:
        return None
    try:
        return read_decision(named)
    except InvalidArguments:
        return None


def asked_in(events: Iterable[AnyEventData], untaken: Iterable[Decision | None] = ()) -> AskedCalls:
    """Return the calls that wait at the end of an event stream without void events, and those decided.

    `untaken` are decisions that were sent and that no worker has taken yet, the first one first.
    """
    waiting: dict[tuple[str, str], PendingApproval] = {}
    decided: list[DecidedCall] = []
    for data in events:
        match data:
            case ApprovalRequestedData():
                waiting[data.run, data.call_id] = _asked(data)
            case ApprovalGivenData() | ApprovalDeniedData():
                waiting.pop((data.run, data.call_id), None)
                verdict: Verdict = "allow" if isinstance(data, ApprovalGivenData) else "deny"
                key = call_key(data.run, data.turn, data.call_id)
                decided.append(DecidedCall(key, data.call_id, verdict, data.by))
            case ResultUnsentData():
                waiting.pop((data.run, data.call_id), None)
            case _ if data.kind in EXECUTION_ENDS:
                waiting.clear()
            case _:
                pass
    shown = {(call.key, call.fingerprint): call for call in waiting.values()}
    for one in untaken:
        call = None if one is None else shown.pop((one.key, one.fingerprint), None)
        if one is not None and call is not None:
            decided.append(DecidedCall(call.key, call.call_id, one.verdict, one.by))
    return AskedCalls(tuple(shown.values()), tuple(decided))


def _asked(data: ApprovalRequestedData) -> PendingApproval:
    return PendingApproval(
        key=call_key(data.run, data.turn, data.call_id),
        call_id=data.call_id,
        agent=data.agent,
        tool=data.tool,
        arguments=data.arguments,
        fingerprint=data.fingerprint,
        parameters=data.parameters,
    )


def names_of(calls: Sequence[PendingApproval]) -> list[str]:
    """Return the shortest name of each call of an execution: its id, or its key if others have that id."""
    ids = [call.call_id for call in calls]
    return [call.call_id if ids.count(call.call_id) == 1 else call.key for call in calls]


def decision_on(
    execution_id: str,
    asked: AskedCalls,
    call_id: str,
    verdict: Verdict,
    reason: str | None = None,
    edited_arguments: Mapping[str, Any] | None = None,
    by: str | None = None,
    fingerprint: str | None = None,
) -> Decision:
    """Return the decision about the call whose id or key is `call_id`; a `fingerprint` must be its own.

    Raises:
        DefinitionError: the verdict is neither "allow" nor "deny", or a denied call is given arguments.
        NotPending: no call with that id waits, or several do, or it has another fingerprint.
        AlreadyDecided: a call with that id waited, and somebody has decided about it.
        Unserialisable: the edited arguments are not a JSON object.
        InvalidArguments: the edited arguments do not fit the tool. Nothing is decided.
    """
    if verdict not in get_args(Verdict):
        raise DefinitionError(f'a decision is "allow" or "deny", not {verdict!r}')
    if verdict == "deny" and edited_arguments is not None:
        raise DefinitionError("a denied call is not made, so it takes no edited_arguments; give a reason")
    found = [one for one in asked.waiting if call_id in (one.call_id, one.key)]
    if len(found) != 1:
        waiting = [one.key for one in found] or names_of(asked.waiting)
        done = [one for one in asked.decided if call_id in (one.call_id, one.key)]
        if done and not found:
            raise AlreadyDecided(execution_id, call_id, waiting, verdict=done[-1].verdict, by=done[-1].by)
        raise NotPending(execution_id, call_id, waiting, bool(found))
    if fingerprint not in (None, found[0].fingerprint):
        raise NotPending(execution_id, call_id, [found[0].key], changed=True)
    try:
        edited = None if edited_arguments is None else dict(edited_arguments)
        edited = kept(edited)
    except (TypeError, ValueError) as error:
        raise Unserialisable("edited_arguments", type(edited_arguments).__name__, str(error)) from error
    if edited is not None and (wrong := faults_in(edited, found[0].parameters)):
        raise InvalidArguments(found[0].tool, wrong)
    return Decision(
        key=found[0].key,
        fingerprint=found[0].fingerprint,
        verdict=verdict,
        reason=reason,
        edited_arguments=edited,
        by=by,
    )
