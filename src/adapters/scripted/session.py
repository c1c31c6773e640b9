"""A session that plays a script, for tests, demos, and programs that must not need a network.

session = ScriptedSession({
    "front": [call("look_up", {"city": "Lyon"}), ["It rains.", handoff("poet")]],
    "poet": [fail(429), "Rain, rain, go to Spain."],
})
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeGuard

from outlast.adapters.scripted.model import (
    ModelCall,
    ModelFailure,
    Reply,
    ScriptExhausted,
    WrongReply,
    is_output_value,
    say,
)
from outlast.core.agents import AgentGraph
from outlast.core.argument_checks import check_list, check_mapping
from outlast.core.chunks import text_of
from outlast.core.context_processors import ContextProcessor, processed
from outlast.core.entries import Entry, FunctionCall, MessageOutput
from outlast.core.errors import DefinitionError
from outlast.core.json import JSON
from outlast.core.prices import Price, Prices, priced, without_price
from outlast.core.summaries import SummariseHistory, checked_context, summariser_in
from outlast.core.usage import Usage
from outlast.core.values import WireValue
from outlast.ports.deltas import Publish
from outlast.ports.llm import ModelReply, ModelRequest, Session
from outlast.ports.resources import Resources

Script = Mapping[str, Sequence[Reply]] | Callable[[ModelRequest], Reply] | Callable[[ModelCall], Reply]
"""The replies of each agent, in order; or a function that makes a reply from the call alone."""

_WORD = re.compile(r"\s*\S+|\s+")
_ALPHANUMERICS = string.ascii_letters + string.digits


@dataclass(frozen=True)
class ScriptedSession(Session):
    """Plays `script` instead of asking a model.

    The script has the replies of each agent, in order, or is a function that makes each reply: of `say`,
    `call`, `calls`, `handoff` and `fail` in `outlast.testing`, or a `str`.

    The request alone decides which reply comes next: its handle counts the replies of each agent. So a retry,
    a replay and another process get the same reply.

    A mistake in a script ends the run at once, and is the cause of the error: an exception of the function, a
    reply of a wrong type, a script without a further reply (`ScriptExhausted`), or a call of a tool that the
    agent does not have (`WrongReply`).

    Raises:
        DefinitionError: a reply of the script has neither a message nor a call, or is of a wrong type.
        ConfigurationError: `context` is not a list of context processors.
    """

    script: Script
    raise_on_tool_fail: bool = False
    stream: bool = False
    may_call_unknown_tools: bool = False
    """True if the script may call tools that its agent does not have, as real models do now and then."""
    context: Sequence[ContextProcessor] = ()
    """The context processors, as for `LocalSession`; a script that is a function sees the entries that they
    leave. A summary is always the first reply of the agent named "summariser"."""
    prices: Mapping[str, Price] = Prices()
    """The prices of models; a script whose replies have tokens costs nothing known without them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prices", Prices(self.prices))
        object.__setattr__(self, "context", checked_context(self.context))
        if callable(self.script):
            return
        check_mapping("the script", self.script, '{"the agent": [replies]}, or give a function')
        for agent, replies in self.script.items():
            check_list(f"the script of agent {agent!r}", replies)
            for number, reply in enumerate(replies, 1):
                where = f"reply {number} in the script of agent {agent!r}"
                try:
                    is_empty = not isinstance(reply, (ModelFailure, ModelReply)) and not _outputs(reply)
                except WrongReply as error:
                    raise DefinitionError(f"{where}: {error}") from error
                if is_empty:
                    raise DefinitionError(f"{where} is empty; write at least say('')")

    def check(self, graph: AgentGraph) -> None:
        """Accept any agents."""

    def anew(self, handle: JSON) -> JSON:
        """Return the handle if it is of a script; after replies of another session, the script begins."""
        is_own = isinstance(handle, dict) and isinstance(handle.get("replies"), dict)
        return handle if is_own else None

    async def unpriced(self, models: Collection[str]) -> tuple[str, ...]:
        return without_price(models, Prices(self.prices), _unpublished)

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
        if isinstance(scripted, ModelFailure):
            raise scripted.error()
        handle: JSON = {"replies": {**counts, request.agent: number + 1}}
        if isinstance(scripted, ModelReply):
            self._check_calls(request, scripted.entries)
            return self._priced(request, scripted.with_(handle=handle))
        before = sum(counts.values())
        entries = tuple(
            entry.model_copy(update={"tool_call_id": _call_id(before, position)})
            if isinstance(entry, FunctionCall) and not entry.tool_call_id
            else entry
            for position, entry in enumerate(_outputs(scripted))
        )
        self._check_calls(request, entries)
        return ModelReply(entries=entries, handle=handle)

    def _check_calls(self, request: ModelRequest, entries: Sequence[Entry]) -> None:
        """Raise `WrongReply` if the script calls a tool that the agent does not have."""
        if self.may_call_unknown_tools:
            return
        agent = request.graph[request.agent]
        known = {tool.name for tool in (*agent.tools, *agent.indexed)} | agent.handoff_tools().keys()
        for entry in entries:
            if not isinstance(entry, FunctionCall) or entry.awaits_confirmation:
                continue
            if entry.name not in known:
                raise WrongReply(
                    f"the script calls {entry.name!r}, and agent {agent.name!r} has no tool or handoff of "
                    f"that name; it has {', '.join(sorted(known)) or 'none'}. If that is what you test, give "
                    "the session may_call_unknown_tools=True"
                )

    def _priced(self, request: ModelRequest, reply: ModelReply) -> ModelReply:
        model = request.graph[request.agent].model
        if model not in self.prices:
            return reply
        return reply.with_(usage=priced(reply.usage, [model], Prices(self.prices), _unpublished))

    def _next(self, request: ModelRequest, number: int) -> Reply:
        if _is_function(self.script):
            seen = processed(self.context, (*request.history, *request.new))
            return self.script(request.with_(history=seen, new=()) if self.context else request)
        assert isinstance(self.script, Mapping)
        replies = self.script.get(request.agent, ())
        failures: list[ModelFailure] = []
        left = number
        for reply in replies:
            if isinstance(reply, ModelFailure):
                failures.append(reply)
            elif left:
                left -= 1
                failures = []
            else:
                return (*failures, reply)[min(request.attempt - 1, len(failures))]
        if failures and not left:
            return failures[min(request.attempt, len(failures)) - 1]
        count = sum(not isinstance(reply, ModelFailure) for reply in replies)
        raise ScriptExhausted(
            f"the script has {count} replies for agent {request.agent!r}, but this is request {number + 1}; "
            "add a reply to the script"
        )


def _is_function(script: Script) -> TypeGuard[Callable[[ModelRequest], Reply]]:
    return callable(script)


def _unpublished(model: str, usage: Usage) -> None:
    """Return that no price of the model is published."""


def _outputs(reply: Any) -> tuple[Entry, ...]:
    """Return the entries of a reply.

    Raises:
        WrongReply: it is not one.
    """
    items = reply if isinstance(reply, Sequence) and not isinstance(reply, str) else (reply,)
    for item in items:
        if not isinstance(item, (str, WireValue)) and not is_output_value(item):
            raise WrongReply(
                "a reply is text, or what say, call, calls, handoff and fail return, or a value of the "
                f"output type that is an object, or a list of those; not {type(item).__name__}"
            )
    return tuple(say(item) if isinstance(item, str) or is_output_value(item) else item for item in items)


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
