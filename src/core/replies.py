"""Reading a reply of a model without trusting it, and wording the results that go back to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any

from outlast.core.entries import AgentHandoff, Entry, FunctionCall, MessageInput, ToolExecution
from outlast.core.errors import ToolError, ToolFailed, WorkflowError
from outlast.core.failure import Failure
from outlast.core.json import DEPTH_MAX, check_json, decode, encode


def open_function_calls(entries: tuple[Entry, ...]) -> tuple[FunctionCall, ...]:
    """Return the calls that wait for a result: those that no server-side handoff follows."""
    calls: list[FunctionCall] = []
    for entry in entries:
        if isinstance(entry, AgentHandoff):
            calls.clear()
        elif isinstance(entry, FunctionCall):
            calls.append(entry)
    return tuple(calls)


def callers_in(agent: str, entries: tuple[Entry, ...]) -> set[str]:
    """Return the agents that called a tool, or handed off, in a reply that `agent` began."""
    callers: set[str] = set()
    for entry in entries:
        if isinstance(entry, (FunctionCall, ToolExecution, AgentHandoff)):
            callers.add(agent)
        if isinstance(entry, AgentHandoff):
            agent = entry.next_agent_name
    return callers


CALL_ID_MAX = 200
"""The longest id of a call, in characters: it becomes part of ids whose length backends limit."""


def _has_own_id(call_id: str, seen: Collection[str]) -> bool:
    """Return whether this id can be shown and differs from the `seen` ones."""
    return 0 < len(call_id) <= CALL_ID_MAX and call_id.isprintable() and call_id not in seen


def own_call_ids(given: Sequence[str]) -> list[str]:
    """Return an id of its own for every call of a reply, by the ids that the model gave them, in order.

    The first call with an id keeps it. An id that is missing, repeated, longer than `CALL_ID_MAX` or not
    printable (such as half a surrogate pair, which no backend takes) is replaced by a new one of nine letters
    and digits.
    """
    taken = frozenset(given)
    made_up = (name for number in count() if (name := f"call{number:05d}") not in taken)
    own: list[str] = []
    seen: set[str] = set()
    for call_id in given:
        own.append(call_id if _has_own_id(call_id, seen) else next(made_up))
        seen.add(own[-1])
    return own


def with_own_call_ids(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Return the entries with an id of its own for every call; see `own_call_ids`."""
    given = [entry.tool_call_id for entry in entries if isinstance(entry, FunctionCall)]
    own = own_call_ids(given)
    if own == given:
        return entries
    left = iter(own)
    return tuple(
        entry.model_copy(update={"tool_call_id": next(left)}) if isinstance(entry, FunctionCall) else entry
        for entry in entries
    )


def arguments_in(reply: Mapping[str, Any]) -> dict[str, str]:
    """Return the arguments of a reply's calls, each as the model wrote it, by the call's own id.

    The reply is the JSON that a journal holds. Only its calls are read, and nothing is validated: making
    entries of every reply would cost a reader of the event stream more than everything else.
    """
    calls = [
        entry
        for entry in reply.get("entries", ())
        if isinstance(entry, dict) and entry.get("type") == "function.call"
    ]
    own = own_call_ids([call["tool_call_id"] for call in calls])
    return {call_id: call["arguments"] for call_id, call in zip(own, calls, strict=True)}


def parsed_arguments(text: str) -> dict[str, Any] | None:
    """Return the arguments that a model wrote ({} for none), or None when they are not a JSON object."""
    if not text.strip():
        return {}
    try:
        value = decode(text)
        # Python reads NaN and infinities, which are not JSON; values nested too deep are refused too.
        check_json(value, depth_max=DEPTH_MAX)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def failed_call(tool: str, failure: Failure) -> ToolError:
    """Return the error whose text answers a call that failed: a `ToolError` as it is, others wrapped."""
    error = failure.error()
    return error if isinstance(error, ToolError) else ToolFailed(tool, failure.kind, failure.message)


def is_mistake_of_program(failure: Failure) -> bool:
    """Return whether the author of a program must change it: a `WorkflowError`, alone or in a group."""
    return any(isinstance(one.error(), WorkflowError) for one in (failure, *failure.group))


def handed_off(agent: str) -> str:
    """Return the text that answers a call which has handed off to `agent`."""
    return encode({"handed_off_to": agent}).decode()


def rejected_answer(problem: str) -> MessageInput:
    """Return the message that asks for another answer."""
    return MessageInput(content=f"This answer cannot be used. {problem}\nAnswer again.")
