"""A session that plays a script, for tests, demos, and programs that must not need a network.

session = ScriptedSession({
    "front": [[call("look_up", {"city": "Lyon"})], [say("It rains."), handoff("poet")]],
    "poet": [say("Rain, rain, go to Spain.")],
})
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from outlast.core.agents import AgentGraph, handoff_tool
from outlast.core.chunks import Content, text_of
from outlast.core.context_processors import ContextProcessor, processed
from outlast.core.entries import Entry, FunctionCall, MessageOutput
from outlast.core.errors import DefinitionError, ModelRefused
from outlast.core.json import JSON, encode
from outlast.core.summaries import SummariseHistory, checked_context, summariser_in
from outlast.ports.deltas import Publish
from outlast.ports.llm import ModelReply, ModelRequest, Session
from outlast.ports.resources import Resources

Reply = str | Entry | Sequence[str | Entry]
"""One reply: messages and calls of the model. A `str` is a message."""

Script = Mapping[str, Sequence[Reply]] | Callable[[ModelRequest], ModelReply | Reply]
"""The replies of each agent, in order; or a function that makes a reply from the request alone."""

_WORD = re.compile(r"\s*\S+|\s+")
_ALPHANUMERICS = string.ascii_letters + string.digits


def say(content: Content) -> MessageOutput:
    """Return a message of the model."""
    return MessageOutput(content=content)


def call(tool: str, arguments: Mapping[str, JSON] | str | None = None, *, call_id: str = "") -> FunctionCall:
    """Return a call of a tool. A `str` of arguments is used unchanged, even if it is not JSON."""
    text = arguments if isinstance(arguments, str) else encode(dict(arguments or {})).decode()
    return FunctionCall(tool_call_id=call_id, name=tool, arguments=text)


def handoff(agent: str) -> FunctionCall:
    """Return a handoff to another agent."""
    return call(handoff_tool(agent))


@dataclass(frozen=True)
class ScriptedSession(Session):
    """Plays `script` instead of asking a model.

    The request alone decides which reply comes next: its handle counts the replies of each agent. So a retry,
    a replay and another process get the same reply. A call without an id in the script gets one, and it is
    the same in every run.

    Raises:
        DefinitionError: a reply of the script has neither a message nor a call.
        ConfigurationError: `context` is not a list of context processors.
    """

    script: Script
    raise_on_tool_fail: bool = False
    stream: bool = False
    context: Sequence[ContextProcessor] = ()
    """The context processors, as for `LocalSession`; a script that is a function sees the entries that they
    leave. A summary is always the first reply of the agent named "summariser"."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "context", checked_context(self.context))
        if callable(self.script):
            return
        for agent, replies in self.script.items():
            if isinstance(replies, str):
                raise DefinitionError(f"the script of agent {agent!r} is a string; give a list of replies")
            for number, reply in enumerate(replies, 1):
                if not _outputs(reply):
                    raise DefinitionError(
                        f"reply {number} in the script of agent {agent!r} is empty; write at least say('')"
                    )

    def check(self, graph: AgentGraph) -> None:
        """Accept any agents."""

    def anew(self, handle: JSON) -> JSON:
        return handle

    @property
    def summariser(self) -> SummariseHistory | None:
        return summariser_in(self.context)

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        reply = self._reply(request)
        if publish is not None:
            for entry in reply.entries:
                if isinstance(entry, MessageOutput):
                    for word in _WORD.findall(text_of(entry.content)):
                        publish(word)
        return reply

    def _reply(self, request: ModelRequest) -> ModelReply:
        counts = _counts(request.handle)
        number = counts.get(request.agent, 0)
        scripted = self._next(request, number)
        handle: JSON = {"replies": {**counts, request.agent: number + 1}}
        if isinstance(scripted, ModelReply):
            return scripted.with_(handle=handle)
        before = sum(counts.values())
        entries = tuple(
            entry.model_copy(update={"tool_call_id": _call_id(before, position)})
            if isinstance(entry, FunctionCall) and not entry.tool_call_id
            else entry
            for position, entry in enumerate(_outputs(scripted))
        )
        return ModelReply(entries=entries, handle=handle)

    def _next(self, request: ModelRequest, number: int) -> ModelReply | Reply:
        if callable(self.script):
            seen = processed(self.context, (*request.history, *request.new))
            return self.script(request.with_(history=seen, new=()) if self.context else request)
        replies = self.script.get(request.agent, ())
        if number >= len(replies):
            raise ModelRefused(
                404,
                f"the script has {len(replies)} replies for agent {request.agent!r}, but this is request "
                f"{number + 1}; add a reply to the script",
            )
        return replies[number]


def _outputs(reply: Reply) -> tuple[Entry, ...]:
    items = reply if isinstance(reply, Sequence) and not isinstance(reply, str) else (reply,)
    return tuple(say(item) if isinstance(item, str) else item for item in items)


def _counts(handle: JSON) -> dict[str, int]:
    if handle is None:
        return {}
    replies = handle.get("replies") if isinstance(handle, dict) else None
    if not isinstance(replies, dict):
        raise DefinitionError(
            "this conversation was started with another kind of session; continue it with that kind, or "
            "start a new conversation"
        )
    return {name: count for name, count in replies.items() if isinstance(count, int)}


def _call_id(replies: int, position: int) -> str:
    digest = sha256(f"{replies}/{position}".encode()).digest()
    return "".join(_ALPHANUMERICS[byte % len(_ALPHANUMERICS)] for byte in digest[:9])
