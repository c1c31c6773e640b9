"""The rules of order for the entries of a conversation and the messages of a chat, without I/O.

A function call is open until its result comes. A handoff abandons every open call before it: the API then
refuses a result for such a call. While calls are open, the next request must first give all their results.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from outlast.testing.mistral_server.errors import bad_request, chat_bad_request, chat_order
from outlast.testing.mistral_server.model import Json

_OUTPUT_TYPES = ("message.output", "function.call", "tool.execution", "agent.handoff")
_TOOL_CALL_ID = re.compile(r"[a-zA-Z0-9]{9}")


@dataclass(slots=True)
class CallLedger:
    """The open function calls of a conversation, in order, and the ids of the calls that have a result."""

    open: dict[str, Json] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)

    def copy(self) -> CallLedger:
        return CallLedger(dict(self.open), set(self.answered))

    @property
    def unconfirmed(self) -> dict[str, Json]:
        """The open calls that wait for a confirmation and not for a result."""
        return {call_id: call for call_id, call in self.open.items() if _is_pending(call)}

    def enter(self, entry: Json) -> None:
        match entry["type"]:
            case "function.call" if entry.get("confirmation_status") in (None, "pending"):
                self.open[entry["tool_call_id"]] = entry
                self.answered.discard(entry["tool_call_id"])
            case "function.result":
                self.answered.add(entry["tool_call_id"])
                self.open.pop(entry["tool_call_id"], None)
            case "agent.handoff":
                self.open.clear()

    def confirm(self, call_id: str) -> Json:
        """Close a call that waits for a confirmation, and return it."""
        if call_id not in self.unconfirmed:
            raise bad_request(f"Unexpected tool call id {call_id} in tool confirmations")
        self.answered.add(call_id)
        return self.open.pop(call_id)

    def check(self, entry: Json) -> None:
        """Raise the error of the API if this input must not come next."""
        if entry["type"] == "function.result":
            self._check_result(entry["tool_call_id"])
        elif entry["type"] == "message.input":
            self.check_all_answered()

    def check_all_answered(self) -> None:
        if self.open:
            raise bad_request(
                "Cannot append other inputs while function results are still missing. "
                f"Provide function results first for: {list(self.open)}"
            )

    def _check_result(self, call_id: str) -> None:
        if call_id in self.answered:
            raise bad_request(f"Function calls already have a result: ['{call_id}']")
        if call_id not in self.open or _is_pending(self.open[call_id]):
            raise bad_request(f"Unexpected tool call id {call_id} in tool results")


@dataclass(slots=True)
class ReplyCounter:
    """Counts the replies of the model in entries or messages. An input or a handoff ends a reply."""

    count: int = 0
    within: bool = False

    def add(self, item: Json) -> None:
        by_model = item.get("type") in _OUTPUT_TYPES or (
            "type" not in item and item.get("role") == "assistant"
        )
        self.count += by_model and not self.within
        self.within = by_model and item.get("type") != "agent.handoff"


def replies_in(messages: Sequence[Json]) -> int:
    counter = ReplyCounter()
    for message in messages:
        counter.add(message)
    return counter.count


def is_valid_json(arguments: object) -> bool:
    """Return whether the arguments of a call are readable: an object, a text with JSON, or empty."""
    if not isinstance(arguments, str) or arguments == "":
        return True
    try:
        json.loads(arguments)
    except ValueError:
        return False
    return True


def check_messages(messages: Sequence[Json]) -> None:
    """Raise the error of the API if the chat endpoint does not accept these messages."""
    if not messages:
        raise chat_order("Conversation must have at least one message")
    waiting: list[str] = []
    previous: str | None = None
    for message in messages:
        role = message["role"]
        if role == "tool":
            call_id = str(message.get("tool_call_id"))
            if call_id not in waiting:
                raise chat_order(f"Unexpected tool call id {call_id} in tool results")
            waiting.remove(call_id)
        elif waiting:
            raise chat_order("Not the same number of function calls and responses")
        elif previous == "tool" and role != "assistant":
            raise chat_order(f"Unexpected role '{role}' after role 'tool'")
        if role == "assistant":
            waiting = _calls_of(message)
        previous = role
    if waiting and previous == "tool":
        raise chat_order("Not the same number of function calls and responses")
    if previous not in ("user", "tool") and not messages[-1].get("prefix"):
        raise chat_order(
            "Expected last role User or Tool (or Assistant with prefix True) for serving but got "
            + str(previous)
        )


def _calls_of(message: Json) -> list[str]:
    calls = [call.get("id", "null") for call in message.get("tool_calls") or []]
    if not calls and not message.get("content") and not message.get("prefix"):
        text = "Assistant message must have either content or tool_calls, but not none."
        raise chat_bad_request(text, type="invalid_assistant_message", code="3240")
    for call_id in calls:
        if not _TOOL_CALL_ID.fullmatch(call_id):
            text = f"Tool call id was {call_id} but must be a-z, A-Z, 0-9, with a length of 9."
            raise chat_bad_request(text, type="invalid_function_call", code="3280")
    return calls


def _is_pending(call: Json) -> bool:
    return call.get("confirmation_status") == "pending"
