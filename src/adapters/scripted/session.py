"""A session that plays a script: for tests, demos, and programs that must not depend on a network.

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
from outlast.ports.deltas import Tell
from outlast.ports.llm import ModelReply, ModelRequest, Session
from outlast.ports.resources import Resources

Reply = str | Entry | Sequence[str | Entry]
"""What the model says and calls in one reply; a text is something that it says."""

Script = Mapping[str, Sequence[Reply]] | Callable[[ModelRequest], ModelReply | Reply]
"""The replies of each agent, in order; or a function of the request, and of nothing else."""

_WORD = re.compile(r"\s*\S+|\s+")
_ALPHANUMERICS = string.ascii_letters + string.digits


def say(content: Content) -> MessageOutput:
    """The model says something."""
    return MessageOutput(content=content)


def call(tool: str, arguments: Mapping[str, JSON] | str | None = None, *, call_id: str = "") -> FunctionCall:
    """The model calls a tool; a text of arguments is taken as it is, JSON or not."""
    text = arguments if isinstance(arguments, str) else encode(dict(arguments or {})).decode()
    return FunctionCall(tool_call_id=call_id, name=tool, arguments=text)


def handoff(agent: str) -> FunctionCall:
    """The model hands off to another agent."""
    return call(handoff_tool(agent))


@dataclass(frozen=True)
class ScriptedSession(Session):
    """Plays `script`.

    Which reply comes next follows from the request alone (the handle counts each agent's replies), so a
    retry, a replay and another process get the same one. Ids of calls are made up where the script gives
    none, the same in every run.

    Raises:
        DefinitionError: a reply in which nothing is said or called.
        ConfigurationError: a context that is none.
    """

    script: Script
    raise_on_tool_fail: bool = False
    stream: bool = False
    context: Sequence[ContextProcessor] = ()
    """What of a long conversation a script that is a function sees, as for `LocalSession`. A summary is the
    first reply of an agent called "summariser"."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "context", checked_context(self.context))
        if callable(self.script):
            return
        for agent, replies in self.script.items():
            if isinstance(replies, str):
                raise DefinitionError(f"the script of agent {agent!r} is a text; give a list of replies")
            for number, reply in enumerate(replies, 1):
                if not _outputs(reply):
                    raise DefinitionError(
                        f"reply {number} of agent {agent!r} is empty; give it say('') at least"
                    )

    def check(self, graph: AgentGraph) -> None:
        """A script serves any agents."""

    def anew(self, handle: JSON) -> JSON:
        return handle

    @property
    def summariser(self) -> SummariseHistory | None:
        return summariser_in(self.context)

    async def reply(
        self, request: ModelRequest, resources: Resources, tell: Tell | None = None
    ) -> ModelReply:
        reply = self._reply(request)
        if tell is not None:
            for entry in reply.entries:
                if isinstance(entry, MessageOutput):
                    for word in _WORD.findall(text_of(entry.content)):
                        tell(word)
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
            told = processed(self.context, (*request.history, *request.new))
            return self.script(request.with_(history=told, new=()) if self.context else request)
        replies = self.script.get(request.agent, ())
        if number >= len(replies):
            raise ModelRefused(
                404,
                f"the script has {len(replies)} replies of agent {request.agent!r}, and this is its "
                f"request {number + 1}; add a reply",
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
            "this conversation was begun with another kind of session; go on with that one, or begin anew"
        )
    return {name: count for name, count in replies.items() if isinstance(count, int)}


def _call_id(replies: int, position: int) -> str:
    digest = sha256(f"{replies}/{position}".encode()).digest()
    return "".join(_ALPHANUMERICS[byte % len(_ALPHANUMERICS)] for byte in digest[:9])
