"""The model of the stand-in: its input, its outputs, and a model that plays a script.

A model is any callable that takes a `ModelPrompt` and returns a reply. A function of a `ModelCall`, which
plays in a `ScriptedSession`, is one: a `ModelPrompt` has everything that a `ModelCall` has. A model that
waits must be `async`, because it runs on the event loop of the server. `ScriptedModel` plays prepared
replies.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from outlast.adapters import scripted
from outlast.core import chunks
from outlast.core import entries as wire
from outlast.core.agents import handoff_tool
from outlast.core.entries import Entry, FunctionCall, FunctionResult, MessageOutput, ToolExecution
from outlast.ports.llm import ModelReply

Json = dict[str, Any]

FinishReason = Literal["stop", "length", "model_length", "error", "tool_calls"]


@dataclass(frozen=True, slots=True)
class ModelPrompt:
    """The input of one call of the model: everything that it can know.

    `entries` is the conversation so far in the form of the API: entries on the conversations endpoint,
    messages on the chat endpoint. `replies` is the number of replies in it. The chat endpoint has no agents:
    `agent` and `agent_id` are None, `handoffs` is empty, and `instructions` is the text of the system
    messages.
    """

    endpoint: Literal["conversations", "chat"]
    model: str
    agent: str | None
    agent_id: str | None
    instructions: str | None
    tools: Sequence[Json]
    entries: Sequence[Json]
    completion_args: Json
    replies: int
    handoffs: Sequence[str] = ()

    @property
    def tool_names(self) -> list[str]:
        """The names of the function tools, in order. For a built-in tool, its type is the name."""
        return [tool["function"]["name"] if "function" in tool else tool["type"] for tool in self.tools]

    @property
    def all_instructions(self) -> str:
        """The whole system prompt."""
        return self.instructions or ""

    @property
    def conversation(self) -> tuple[Entry, ...]:
        """All entries so far, the newest last, as a session has them."""
        if self.endpoint == "conversations":
            return wire.entries.validate_python(self.entries)
        return tuple(entry for message in self.entries for entry in _entries_of(message))

    @property
    def text(self) -> str:
        """The text of the last user message, or the empty string."""
        return next((text_of(entry["content"]) for entry in reversed(self.entries) if _from_user(entry)), "")

    @property
    def results(self) -> dict[str, str]:
        """The results of function calls since the last reply, by call id, in the order in which they came."""
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
    """A message. A list is sent as content chunks. Only the chat endpoint shows `finish_reason`."""

    content: str | Sequence[Json]
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Think:
    """A thinking chunk. It becomes a part of the message that follows it in the same reply."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function tool. A string of arguments is sent unchanged, even if it is not valid JSON."""

    tool: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class HandOff:
    """A handoff to one of the agents in `ModelPrompt.handoffs`, by name. It must end the reply."""

    to: str


@dataclass(frozen=True, slots=True)
class Execute:
    """A run of a built-in or connector tool on the server.

    If the configuration of the tool lists it in `requires_confirmation`, the server first asks the caller. It
    calls the model again after the caller has answered.
    """

    tool: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refuse:
    """An error: the request gets this status and body as its answer, and changes nothing."""

    status: int
    body: Mapping[str, Any] | str
    headers: Mapping[str, str] = field(default_factory=dict)


Output = Say | Think | Call | HandOff | Execute | Refuse
Reply = scripted.Reply | Output | Sequence[Output | Entry | str]
"""A reply: as in a `ScriptedSession`, or of outputs that only a server can send."""

Model = Callable[[ModelPrompt], Reply | Awaitable[Reply]]
Script = Mapping[str, Sequence[Reply]] | Sequence[Reply]


def outputs_of(call: ModelPrompt, reply: Reply) -> list[Output]:
    """Return a reply as the outputs of a server.

    Raises:
        WrongReply: it is not one.
    """
    if isinstance(reply, ModelReply):
        reply = reply.entries
    items = reply if isinstance(reply, Sequence) and not isinstance(reply, str) else (reply,)
    return [_output(call, item) for item in items]


def _output(call: ModelPrompt, item: object) -> Output:
    match item:
        case str():
            return Say(item)
        case MessageOutput(content=content):
            return Say(chunks.to_wire(content))
        case FunctionCall(name=name):
            agents = {handoff_tool(agent): agent for agent in call.handoffs}
            if name in agents:
                return HandOff(agents[name])
            return Call(name, item.arguments, item.tool_call_id or None)
        case ToolExecution():
            return Execute(item.name, item.arguments, item.info or {})
        case scripted.ModelFailure(status=0):
            raise scripted.WrongReply(
                "the stand-in breaks a connection by a `Fault` with a `Drop`, not by fail(0)"
            )
        case scripted.ModelFailure():
            seconds = item.retry_after_seconds
            headers = {} if seconds is None else {"Retry-After": f"{seconds:g}"}
            return Refuse(item.status, {"object": "error", "message": item.message}, headers)
        case Say() | Think() | Call() | HandOff() | Execute() | Refuse():
            return item
    if scripted.is_output_value(item):
        return Say(scripted.output_text(item))
    raise scripted.WrongReply(
        f"a reply has {item!r} in it; use str, say, call, handoff or fail, or Say, Think, Call, HandOff, "
        "Execute or Refuse"
    )


class ScriptedModel:
    """Plays the replies of a script in order, with one queue for each key of the script.

    A key is the name of an agent, the name of a model, or "*"; the first of these in the script is used. The
    chat endpoint has no agents, so its key is the name of the model. `calls` has the prompts of all calls so
    far, in order.
    """

    def __init__(self, script: Script) -> None:
        replies: Mapping[str, Sequence[Reply]] = script if isinstance(script, Mapping) else {"*": script}
        self._queues = {key: deque(queue) for key, queue in replies.items()}
        self._lock = threading.Lock()
        self.calls: list[ModelPrompt] = []

    def __call__(self, call: ModelPrompt) -> Reply:
        with self._lock:
            self.calls.append(call)
            keys = [key for key in (call.agent, call.model, "*") if key in self._queues]
            if not keys:
                raise scripted.ScriptExhausted(
                    f"no replies for agent {call.agent!r} with model {call.model!r}; the keys of the "
                    f"script are {sorted(self._queues)}: add the name of the agent or the model, or '*'"
                )
            queue = self._queues[keys[0]]
            if not queue:
                raise scripted.ScriptExhausted(
                    f"the script has no more replies for {keys[0]!r} at turn {call.replies}; add a reply"
                )
            return queue.popleft()

    @property
    def unused(self) -> dict[str, int]:
        """The number of replies that are left for each key; keys without replies are left out."""
        with self._lock:
            return {key: len(queue) for key, queue in self._queues.items() if queue}


def text_of(content: str | Sequence[Json] | None) -> str:
    """Return the plain text of the content of a message, without thinking."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(chunk.get("text", "") for chunk in content)


def _entries_of(message: Json) -> Iterator[Entry]:
    """Yield the entries that a message of the chat endpoint stands for; none for the system's."""
    match message["role"]:
        case "user":
            yield wire.entries.validate_python([{"type": "message.input", **message}])[0]
        case "tool":
            yield FunctionResult(tool_call_id=message["tool_call_id"], result=text_of(message["content"]))
        case "assistant":
            if message.get("content"):
                yield wire.entries.validate_python(
                    [{"type": "message.output", "content": message["content"]}]
                )[0]
            for call in message.get("tool_calls") or ():
                function = call["function"]
                name, arguments = function["name"], function["arguments"]
                yield FunctionCall(tool_call_id=call["id"], name=name, arguments=arguments)


def words_in(value: object) -> int:
    """Return the number of words in all strings of a JSON value; the stand-in counts words as tokens."""
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
