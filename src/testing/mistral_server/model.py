"""The model behind the imitated cloud: what it is asked, and what it may answer.

A model is any callable from a `ModelPrompt` to a sequence of outputs, synchronous or not. It runs on the
server's own event loop, so one that has to wait is `async`. `ScriptedModel` plays prepared replies.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]

FinishReason = Literal["stop", "length", "model_length", "error", "tool_calls"]


@dataclass(frozen=True, slots=True)
class ModelPrompt:
    """One question to the model: everything it can know.

    `entries` is the conversation so far as the wire shows it: entries on the conversations endpoint, messages
    on the chat endpoint. `turn` counts the replies already in it. On the chat endpoint there is no agent:
    `agent_name` and `agent_id` are None, `handoffs` is empty and `instructions` is the text of the system
    messages.
    """

    endpoint: Literal["conversations", "chat"]
    model: str
    agent_name: str | None
    agent_id: str | None
    instructions: str | None
    tools: Sequence[Json]
    entries: Sequence[Json]
    completion_args: Json
    turn: int
    handoffs: Sequence[str] = ()

    @property
    def tool_names(self) -> list[str]:
        """Names of the function tools on offer, in order; built-in tools are named by their type."""
        return [tool["function"]["name"] if "function" in tool else tool["type"] for tool in self.tools]

    @property
    def last_user_text(self) -> str:
        """Text of the last user message, or the empty string."""
        return next((text_of(entry["content"]) for entry in reversed(self.entries) if _from_user(entry)), "")

    @property
    def results(self) -> dict[str, str]:
        """Results of function calls given since the last reply, by call id, in the order given."""
        results: dict[str, str] = {}
        for entry in reversed(self.entries):
            if entry.get("type") == "function.result":
                results[entry["tool_call_id"]] = entry["result"]
            elif entry.get("role") == "tool":
                results[entry["tool_call_id"]] = text_of(entry["content"])
            elif not _from_user(entry):
                break
        return dict(reversed(results.items()))


@dataclass(frozen=True, slots=True)
class Say:
    """A message. A list is sent as content chunks. `finish_reason` shows on the chat endpoint only."""

    content: str | Sequence[Json]
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Think:
    """A thinking chunk, which becomes part of the message that follows it in the same reply."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function tool. A string of arguments is sent as it is, valid JSON or not."""

    tool: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Handoff:
    """Gives the conversation to another agent, one of the current one's handoffs. Ends the reply."""

    to: str


@dataclass(frozen=True, slots=True)
class Execute:
    """A run of a built-in or connector tool on the server.

    If the tool's configuration lists it under `requires_confirmation`, the server first asks the caller, and
    it calls the model again once the caller has answered.
    """

    tool: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Fails the whole request, which leaves nothing behind: this status and body are the answer."""

    status: int
    body: Mapping[str, Any] | str
    headers: Mapping[str, str] = field(default_factory=dict)


Output = Say | Think | Call | Handoff | Execute | Refuse
Reply = Sequence[Output]
Model = Callable[[ModelPrompt], Reply | Awaitable[Reply]]


class ScriptExhausted(LookupError):
    """The scripted model was asked for a reply that its script does not hold."""


class ScriptedModel:
    """Plays the replies of a script in order, one queue for each agent.

    A key is an agent's name, a model's name (which is how the chat endpoint is told apart) or "*", tried in
    this order. `calls` lists every question in the order in which they came.
    """

    def __init__(self, script: Mapping[str, Sequence[Reply]] | Sequence[Reply]) -> None:
        replies = script if isinstance(script, Mapping) else {"*": script}
        self._queues = {key: deque(queue) for key, queue in replies.items()}
        self._lock = threading.Lock()
        self.calls: list[ModelPrompt] = []

    def __call__(self, call: ModelPrompt) -> Reply:
        with self._lock:
            self.calls.append(call)
            keys = [key for key in (call.agent_name, call.model, "*") if key in self._queues]
            if not keys:
                raise ScriptExhausted(
                    f"no replies for agent {call.agent_name!r} with model {call.model!r}: "
                    f"the script has {sorted(self._queues)}; add one of these keys or '*'"
                )
            queue = self._queues[keys[0]]
            if not queue:
                raise ScriptExhausted(
                    f"the replies for {keys[0]!r} are used up at turn {call.turn}: add another"
                )
            return queue.popleft()

    @property
    def unused(self) -> dict[str, int]:
        """How many replies are left, by key, without the keys that have none."""
        with self._lock:
            return {key: len(queue) for key, queue in self._queues.items() if queue}


def text_of(content: str | Sequence[Json] | None) -> str:
    """Return the plain text of a message's content, thinking left out."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(chunk.get("text", "") for chunk in content)


def words_in(value: object) -> int:
    """Count the words of every string in a JSON value: the imitation's measure of tokens."""
    return sum(len(text.split()) for text in _strings(value))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _strings(item)


def _from_user(entry: Json) -> bool:
    return entry.get("role") == "user"
