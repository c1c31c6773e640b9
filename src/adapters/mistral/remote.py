"""A session with Mistral's Agents and Conversations API: the server keeps the conversation and hands off."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal

from pydantic import ValidationError

from outlast.adapters.mistral.api_errors import BUSY_SECONDS, hiding
from outlast.adapters.mistral.connectors import with_secrets
from outlast.adapters.mistral.conversations import ConversationAnswer, ConversationCall, ConversationsApi
from outlast.adapters.mistral.definitions import (
    COMPLETION_ARGS,
    check_definitions,
    completion_args,
    graph_fingerprint,
    with_handoffs_as_tools,
)
from outlast.adapters.mistral.reconciliation import Finding, Trace, trace_of
from outlast.adapters.mistral.redaction import SecretRemover
from outlast.adapters.mistral.session import ApiSession, Endpoint
from outlast.adapters.mistral.wire import (
    Wire,
    confirmations_of,
    ends_with_unreadable_call,
    entries_of,
    has_own_call_ids,
    inputs_of,
    usage_of,
    without_abandoned,
)
from outlast.core.agents import TOOL_CHOICES, AgentGraph
from outlast.core.entries import AgentHandoff, Entry, MessageInput
from outlast.core.errors import (
    ConfigurationError,
    DefinitionError,
    MalformedReply,
    ModelOverloaded,
    NotSupported,
)
from outlast.core.json import JSON
from outlast.core.values import Value
from outlast.ports.deltas import Publish
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources

logger = logging.getLogger("outlast.mistral")

FOUND = "the reply was lost on its way and was found in the history of the conversation, which has no usage"
TWICE = "a repeated request was applied twice; its first reply counts"
FOREIGN = "the old conversation has entries that this run did not add, or it does not answer"
ANONYMOUS = "calls in the old conversation have no ids of their own, so they cannot be answered there"

INSTRUCTIONS = "[Instructions from now on, in the place of earlier ones like these:]"
LAST_WAITING_ATTEMPT = 8
"""The last attempt that waits while the server works on a reply. Attempts 2 to 8 wait for `BUSY_SECONDS`
each, and after 90 s a server is done or has given up."""
ORDINARY = ""
"""The reason for a new conversation when it needs no note: another agent is active, or has found tools."""


class Handle(Value):
    """The conversation handle. Its size depends on the number of agents, not on the conversation's length."""

    conversation_id: str
    last_entry_id: str
    """The last entry that we know; the entries of the next request come after it. "" if it has no id."""
    agent: str
    """The name of the active agent."""
    graph: str
    """The fingerprint of the agent graph that the conversation uses."""
    agents: dict[str, str]
    """The ids of all agents, by name."""
    left_because: str | None = None
    """The reason why the next request starts a new conversation; None if this one can go on."""
    instructions: str = ""
    """The fingerprint of the instructions that the conversation was sent last, beside those of its agent."""
    had_attempts: bool = False
    """True if the last request was made more than once. An earlier attempt of it may still arrive, from a
    worker that was paused or from the queue of a proxy."""

    @classmethod
    def of(cls, handle: JSON) -> Handle | None:
        if handle is None:
            return None
        try:
            return cls.model_validate(handle)
        except ValidationError as error:
            raise DefinitionError(
                "this conversation was started with another kind of session; continue it with that kind, or "
                "start a new conversation"
            ) from error


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer, with warnings about how it was found."""

    answer: ConversationAnswer
    warnings: tuple[str, ...] = ()
    left_because: str | None = None
    agents: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RemoteSession(ApiSession):
    """Mistral's agents, in a conversation that the server keeps.

    The session creates the agents on the server, once for each definition. Built-in tools run on the server,
    inside one reply, and by default handoffs happen there, too.

    If the answer to a request was lost, the session looks for it on the server before it sends the request
    again. So the conversation has each turn once. The usage and the cost of a reply that was found like this
    are zero, because the history on the server has no usage.

    If a conversation cannot go on, the session starts a new one and sends all earlier entries to it; the
    `warnings` of the reply say so. This happens when the conversation was deleted, when a call in it cannot
    be read, and when someone else has added to it.
    """

    handoff_execution: Literal["server", "client"] = "server"
    """The side that makes handoffs. With "server", the server does, inside one reply. With "client", the run
    does: the handoff is a turn of its own, and the next agent starts a new conversation that gets all earlier
    entries. That is slower, but depends less on the server."""

    context: tuple[()] = ()
    """Always empty: the server that keeps the conversation decides which entries the model sees."""

    def _priced(self, endpoint: Endpoint, request: ModelRequest, reply: ModelReply) -> ModelReply:
        return reply if FOUND in reply.warnings else super()._priced(endpoint, request, reply)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.context:
            raise NotSupported(
                "RemoteSession does not support context processors: its server keeps the conversation and "
                "decides what the model sees; use LocalSession, or call Runner.summarise between two runs"
            )
        if self.handoff_execution not in ("server", "client"):
            raise ConfigurationError(
                f"handoff_execution is {self.handoff_execution!r}; it must be 'server' or 'client'"
            )

    def check(self, graph: AgentGraph) -> None:
        for agent in graph.agents.values():
            if agent.fallback_models:
                raise NotSupported(
                    f"agent {agent.name!r} has fallback_models, but RemoteSession does not support them; "
                    "remove them, or use LocalSession"
                )
        check_definitions(graph, COMPLETION_ARGS)
        for agent in graph.agents.values():
            if agent.tool_choice not in (None, *TOOL_CHOICES):
                raise NotSupported(
                    f"tool_choice of agent {agent.name!r} names a tool, {agent.tool_choice!r}, but Mistral's "
                    "conversations support no names there; use 'required', or LocalSession"
                )
            if agent.parallel_tool_calls is False:
                raise NotSupported(
                    f"agent {agent.name!r} has parallel_tool_calls=False, but Mistral's conversations do not "
                    "support that; use max_parallel_tools=1, or LocalSession"
                )
            if agent.id is not None and agent.indexed:
                raise NotSupported(
                    f"agent {agent.name!r} has an id and a ToolIndex, but the agent with that id on the "
                    "server cannot be given the tools that are found; remove the id"
                )
            if self.handoff_execution == "server" and agent.filtered_handoffs:
                raise NotSupported(
                    f"the handoff of agent {agent.name!r} to {agent.filtered_handoffs[0]!r} has an "
                    "input_filter, but a server that makes handoffs shows the whole conversation; use "
                    "RemoteSession(handoff_execution='client'), which begins a new one"
                )
            if self.handoff_execution == "client" and agent.id is not None and agent.handoffs:
                raise NotSupported(
                    f"agent {agent.name!r} has an id and handoffs, but the agent with that id on the server "
                    "does not have these handoffs; use handoff_execution='server', or remove the id"
                )

    async def _reply(
        self, endpoint: Endpoint, request: ModelRequest, resources: Resources, publish: Publish | None
    ) -> ModelReply:
        api = await resources.get(
            ("mistral", "conversations", *endpoint.identity), lambda: ConversationsApi.open(endpoint)
        )
        # As long as the timeout of the whole reply, so a silent connection never ends a reply earlier.
        graph, secrets = with_secrets(request.graph)
        remover = SecretRemover(secrets)
        cleaned = remover.text(publish)
        call = ConversationCall(cleaned, self.timeout_seconds, self.first_token_seconds)
        agent, choice = request.graph[request.agent], request.choice
        if choice is not None and (choice != agent.tool_choice or agent.id is not None):
            call = replace(call, completion_args={**completion_args(agent), "tool_choice": choice})
        if self.handoff_execution == "client":
            graph = with_handoffs_as_tools(graph)
        request = request.with_(graph=graph)
        with hiding(secrets):
            reply = remover.reply(await TurnExchange(api, request, call).reply())
        if cleaned is not None:
            cleaned.end()
        return reply


class TurnExchange:
    """One attempt to get one reply."""

    def __init__(self, api: ConversationsApi, request: ModelRequest, call: ConversationCall) -> None:
        self._api = api
        self._request = request
        self._call = call
        self._graph = graph_fingerprint(request.graph)
        self._known = Handle.of(request.handle)

    async def reply(self) -> ModelReply:
        """Return the reply: the one that the server has already made, or a new one."""
        known = self._known
        why = None if known is None else self._why_new(known)
        turn = None
        if known is not None and why is None:
            try:
                turn = await self._append(known)
                why = FOREIGN
            except Exception as error:
                if _status_of(error) != 404:
                    raise
                self._api.agents.forget(self._request.graph)
                why = "the server no longer has the old conversation, or one of its agents"
        if turn is None:
            turn = await self._start((f"a new conversation was started: {why}",) if why else ())
        for warning in turn.warnings:
            logger.warning("model call %s: %s", self._request.idempotency_key, warning)
        return self._reply_of(turn)

    def _why_new(self, known: Handle) -> str | None:
        """Return why the request must start a new conversation; None if the known one can go on."""
        if known.left_because is not None:
            return known.left_because
        if known.graph != self._graph:
            searched = any(agent.indexed for agent in self._request.graph.agents.values())
            return ORDINARY if searched else "the definitions of the agents have changed"
        if known.agent != self._request.agent:
            return ORDINARY
        if ends_with_unreadable_call(self._request.history):
            return "the server accepts nothing after a call whose arguments are not a JSON object"
        return None

    async def _start(self, warnings: tuple[str, ...]) -> Turn:
        """Start a conversation with all earlier entries; use the one that an earlier attempt has started."""
        request, api = self._request, self._api
        inputs = inputs_of((*request.history, *self._new(None)))
        agents = {name: known.id for name, known in (await api.agents.of(request.graph)).items()}
        turn = None
        if request.attempt > 1:
            conversation_id = await api.started_by(request.idempotency_key)
            if conversation_id is not None:
                turn = await self._resumed(conversation_id, inputs)
        if turn is None:
            turn = await self._started(inputs)
        return replace(turn, warnings=(*warnings, *turn.warnings), agents=agents)

    async def _resumed(self, conversation_id: str, inputs: list[Wire]) -> Turn | None:
        """Return the turn of a conversation that an earlier attempt has started; None if it is of no use.

        When it shows no entries, the request is sent again. If the server is still working on the first
        request, it refuses the second one; otherwise nobody would ever have answered the first one.
        """
        try:
            return await self._settled(conversation_id, None, inputs)
        except Exception as error:
            if _status_of(error) != 404:
                raise
            self._api.forget_start(self._request.idempotency_key)
            return None

    async def _started(self, inputs: list[Wire]) -> Turn:
        request, api = self._request, self._api
        try:
            return Turn(
                await api.start(request.graph, request.agent, inputs, request.idempotency_key, self._call)
            )
        except MalformedReply:
            # The server applied the request, but its answer cannot be read.
            conversation_id = await api.started_by(request.idempotency_key)
            if conversation_id is None:
                raise
            turn = _found(conversation_id, await self._look(conversation_id, None, inputs))
            if turn is None:
                raise
            return turn

    async def _append(self, known: Handle) -> Turn | None:
        """Go on with the conversation; return None if someone else has added to it."""
        request = self._request
        inputs = inputs_of(self._new(known))
        confirmations = confirmations_of(request.new)
        turn = await self._settled(known.conversation_id, known.last_entry_id, inputs, confirmations)
        return None if turn is None else replace(turn, agents=known.agents)

    async def _settled(
        self,
        conversation_id: str,
        anchor: str | None,
        inputs: list[Wire],
        confirmations: list[Wire] | None = None,
    ) -> Turn | None:
        """Return the turn for `inputs`; send them unless the conversation has them already.

        Returns None if the conversation has other entries after `anchor`.
        """
        if self._is_in_doubt:
            trace = await self._look(conversation_id, anchor, inputs)
            if trace.finding is not Finding.NOTHING:
                return _found(conversation_id, trace)
        try:
            answer = await self._api.append(conversation_id, inputs, confirmations or [], self._call)
        except Exception as error:
            if _status_of(error) != 400 and not isinstance(error, MalformedReply):
                raise
            # Refused: it may have been applied before. Unreadable answer: it was applied. So look.
            trace = await self._look(conversation_id, anchor, inputs)
            if trace.finding is Finding.NOTHING:
                raise
            return _found(conversation_id, trace)
        if not self._is_in_doubt:
            return Turn(answer)
        trace = trace_of(await self._api.history(conversation_id), anchor, inputs)
        if trace.finding is Finding.ANSWERED and not trace.has_more:
            return Turn(answer)
        if trace.finding is Finding.ANSWERED:
            return Turn(replace(answer, outputs=list(trace.outputs)), (TWICE,), left_because=TWICE)
        return Turn(answer, (FOREIGN,), left_because=FOREIGN)

    def _new(self, known: Handle | None) -> tuple[Entry, ...]:
        """Return the entries to send, with the instructions of the turn if the conversation has others.

        The server takes instructions only when an agent or a conversation is made. An agent for each text
        would never end, so they are a message, behind the results that must come first.
        """
        request = self._request
        new = tuple(without_abandoned(request.new, request.history))
        if not request.instructions or (known is not None and known.instructions == self._instructions):
            return new
        first = next((n for n, entry in enumerate(new) if isinstance(entry, MessageInput)), len(new))
        note = MessageInput(content=f"{INSTRUCTIONS}\n{request.instructions}")
        return (*new[:first], note, *new[first:])

    @property
    def _instructions(self) -> str:
        text = self._request.instructions
        return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16] if text else ""

    @property
    def _is_in_doubt(self) -> bool:
        request, known = self._request, self._known
        return request.attempt > 1 or request.in_doubt or (known is not None and known.had_attempts)

    async def _look(self, conversation_id: str, anchor: str | None, inputs: Sequence[Wire]) -> Trace:
        """Return what the history shows of the request.

        After `LAST_WAITING_ATTEMPT`, a request that is still without an answer counts as something else.

        Raises:
            ModelOverloaded: the server is still working on the request.
        """
        trace = trace_of(await self._api.history(conversation_id), anchor, inputs)
        if trace.finding is Finding.PENDING:
            if self._request.attempt > LAST_WAITING_ATTEMPT:
                return Trace(Finding.SOMETHING_ELSE)
            raise ModelOverloaded(409, "the server is still working on the request", BUSY_SECONDS)
        return trace

    # The reply

    def _reply_of(self, turn: Turn) -> ModelReply:
        answer = turn.answer
        entries = entries_of(answer.outputs, {agent_id: name for name, agent_id in turn.agents.items()})
        active = self._request.agent
        for entry in entries:
            if isinstance(entry, AgentHandoff):
                active = entry.next_agent_name
        ids = [output["id"] for output in answer.outputs if isinstance(output.get("id"), str)]
        handle = Handle(
            conversation_id=answer.conversation_id,
            last_entry_id=ids[-1] if ids else "",
            agent=active,
            graph=self._graph,
            agents=turn.agents,
            instructions=self._instructions,
            left_because=turn.left_because if has_own_call_ids(entries) else ANONYMOUS,
            had_attempts=self._request.attempt > 1,
        )
        return ModelReply(
            entries=entries,
            usage=usage_of(answer.usage),
            handle=handle.model_dump(mode="json"),
            warnings=turn.warnings,
        )


def _found(conversation_id: str, trace: Trace) -> Turn | None:
    """Return the turn that the history shows; None if it shows something else."""
    if trace.finding is not Finding.ANSWERED:
        return None
    left_because = TWICE if trace.has_more else None
    return Turn(ConversationAnswer(conversation_id, list(trace.outputs)), (FOUND,), left_because)


def _status_of(error: Exception) -> Any:
    """Return the HTTP status of an error of the SDK or of ours; None for any other error."""
    return getattr(error, "status_code", None) or getattr(error, "status", None)
