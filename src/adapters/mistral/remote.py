"""A session with Mistral's Agents and Conversations API: the server keeps the conversation and hands off."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
from outlast.adapters.mistral.reconciliation import Sight, Trace, trace_of
from outlast.adapters.mistral.session import ApiSession, Endpoint
from outlast.adapters.mistral.wire import (
    Wire,
    confirmations_of,
    entries_of,
    has_own_call_ids,
    inputs_of,
    is_poisoned,
    usage_of,
    without_abandoned,
)
from outlast.core.agents import AgentGraph
from outlast.core.entries import AgentHandoff
from outlast.core.errors import (
    ConfigurationError,
    DefinitionError,
    MalformedReply,
    ModelOverloaded,
    NotSupported,
)
from outlast.core.json import JSON
from outlast.core.values import Value
from outlast.ports.deltas import Tell
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources

logger = logging.getLogger("outlast.mistral")

FOUND = "the reply was lost on its way and found in the conversation's history, which does not tell its usage"
TWICE = "a request that was repeated has been applied twice; its first reply counts"
FOREIGN = "the old one holds what this run did not say, or never answers"
ANONYMOUS = "calls in it have no ids of their own, and cannot be answered there"

HOPELESS_ATTEMPT = 9
"""The attempt that does not wait any more for a reply that is being made: seven earlier ones have waited for
`BUSY_SECONDS` each, and a server is done, or has given up, after 90 s."""
ORDINARY = ""
"""The reason of a new conversation that goes without saying: another agent is active now."""


class Handle(Value):
    """Where a conversation stands: of the size of the agents' names, however long the conversation is."""

    conversation_id: str
    last_entry_id: str
    """The last entry known, behind which the effect of the next request must be; "" if it has no id."""
    agent: str
    """Who answers now, by name."""
    graph: str
    """The fingerprint of the agents that the conversation runs with."""
    agents: dict[str, str]
    """The id of every agent, by name."""
    is_left: str | None = None
    """Why the conversation cannot be gone on with; what comes next begins a new one."""
    had_attempts: bool = False
    """Whether the last request was made more than once, so that an earlier attempt may still arrive: by a
    worker that was paused, or out of a proxy's queue."""

    @classmethod
    def of(cls, handle: JSON) -> Handle | None:
        if handle is None:
            return None
        try:
            return cls.model_validate(handle)
        except ValidationError as error:
            raise DefinitionError(
                "this conversation was begun with another kind of session; go on with that one, or begin anew"
            ) from error


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer, and what is to be said of how it was got."""

    answer: ConversationAnswer
    notes: tuple[str, ...] = ()
    is_left: str | None = None
    agents: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RemoteSession(ApiSession):
    """Mistral's agents, in a conversation that the server keeps.

    Agents are made on the server as they are defined here, once for equal definitions. Built-in tools, and
    by default handoffs, happen on the server, within one reply. A request whose answer was lost is looked for
    on the server before it is sent again, so that a conversation has each turn once; the usage of a reply
    found so is reported as zero, for the history does not tell it. A conversation that cannot be gone on with
    (it was deleted, a call in it cannot be read, somebody else added to it) is left for a new one that gets
    all that was said; the reply's `notes` say so.
    """

    handoff_execution: Literal["server", "client"] = "server"
    """Who hands off: the server, within one reply; or the run, as a turn of its own after which the next
    agent begins a conversation that gets all that was said. The latter is slower, and relies on less."""

    context: tuple[()] = ()
    """Nothing: what is told of a conversation is up to the server that keeps it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.context:
            raise NotSupported(
                "RemoteSession takes no context processors: its server keeps the conversation, and decides "
                "what the model is told; use LocalSession, or Runner.summarise between two runs"
            )
        if self.handoff_execution not in ("server", "client"):
            raise ConfigurationError(
                f"handoff_execution is {self.handoff_execution!r}; it can be 'server' or 'client'"
            )

    def check(self, graph: AgentGraph) -> None:
        for agent in graph.agents.values():
            if agent.fallback_models:
                raise NotSupported(
                    f"agent {agent.name!r} has fallback_models, which RemoteSession cannot use: "
                    "its agents live on the server; use LocalSession, or leave them out"
                )
        check_definitions(graph, COMPLETION_ARGS)
        for agent in graph.agents.values():
            if self.handoff_execution == "client" and agent.id is not None and agent.handoffs:
                raise NotSupported(
                    f"agent {agent.name!r} is an agent of the server's, which knows nothing of our handoffs; "
                    "use handoff_execution='server', or leave its id out"
                )

    async def _reply(
        self, endpoint: Endpoint, request: ModelRequest, resources: Resources, tell: Tell | None
    ) -> ModelReply:
        api = await resources.get(
            ("mistral", "conversations", *endpoint.identity), lambda: ConversationsApi.open(endpoint)
        )
        # A socket that is silent is never the first limit to bite.
        call = ConversationCall(tell, round(self.timeout_seconds * 1000))
        if not request.may_call:
            arguments = completion_args(request.graph[request.agent])
            call = replace(call, completion_args={**arguments, "tool_choice": "none"})
        graph, secrets = with_secrets(request.graph)
        if self.handoff_execution == "client":
            graph = with_handoffs_as_tools(graph)
        request = request.with_(graph=graph)
        with hiding(secrets):
            return await TurnExchange(api, request, call).reply()


class TurnExchange:
    """One attempt at getting one reply."""

    def __init__(self, api: ConversationsApi, request: ModelRequest, call: ConversationCall) -> None:
        self._api = api
        self._request = request
        self._call = call
        self._graph = graph_fingerprint(request.graph)
        self._known = Handle.of(request.handle)

    async def reply(self) -> ModelReply:
        """Return the reply that the server has made, or makes now."""
        known = self._known
        why = None if known is None else self._why_anew(known)
        turn = None
        if known is not None and why is None:
            try:
                turn = await self._append(known)
                why = FOREIGN
            except Exception as error:
                if _status_of(error) != 404:
                    raise
                self._api.agents.forget(self._request.graph)
                why = "the server does not have the old one, or one of its agents, any more"
        if turn is None:
            turn = await self._start((f"a new conversation was begun: {why}",) if why else ())
        for note in turn.notes:
            logger.warning("model call %s: %s", self._request.idempotency_key, note)
        return self._reply_of(turn)

    def _why_anew(self, known: Handle) -> str | None:
        """Return why the next request must begin a new conversation; None if it need not."""
        if known.is_left is not None:
            return known.is_left
        if known.graph != self._graph:
            return "the definitions of the agents have changed"
        if known.agent != self._request.agent:
            return ORDINARY
        if is_poisoned(self._request.history):
            return "the server takes nothing after a call whose arguments are no JSON object"
        return None

    async def _start(self, notes: tuple[str, ...]) -> Turn:
        """Begin a conversation with all that was said, be it nothing; find it if it was begun before."""
        request, api = self._request, self._api
        inputs = inputs_of((*request.history, *without_abandoned(request.new, request.history)))
        agents = {name: known.id for name, known in (await api.agents.of(request.graph)).items()}
        turn = None
        if request.attempt > 1:
            conversation_id = await api.started_by(request.idempotency_key)
            if conversation_id is not None:
                turn = await self._resumed(conversation_id, inputs)
        if turn is None:
            turn = await self._started(inputs)
        return replace(turn, notes=(*notes, *turn.notes), agents=agents)

    async def _resumed(self, conversation_id: str, inputs: list[Wire]) -> Turn | None:
        """Return what a conversation that was begun before answers; None if nothing more can be had of it.

        Where nothing is seen in it, it is being answered all the same, and then refuses what comes; or nobody
        would ever have answered.
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
            # It was applied, but the answer cannot be read.
            conversation_id = await api.started_by(request.idempotency_key)
            if conversation_id is None:
                raise
            turn = _found(conversation_id, await self._look(conversation_id, None, inputs))
            if turn is None:
                raise
            return turn

    async def _append(self, known: Handle) -> Turn | None:
        """Go on with the conversation; None if it has gone a way of its own."""
        request = self._request
        inputs = inputs_of(without_abandoned(request.new, request.history))
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
        """Return what the conversation answers to `inputs`, sent now unless it has them already.

        None: it holds something else behind `anchor`.
        """
        if self._is_in_doubt:
            trace = await self._look(conversation_id, anchor, inputs)
            if trace.sight is not Sight.NOTHING:
                return _found(conversation_id, trace)
        try:
            answer = await self._api.append(conversation_id, inputs, confirmations or [], self._call)
        except Exception as error:
            if _status_of(error) != 400 and not isinstance(error, MalformedReply):
                raise
            # What is refused may be a repetition of what was applied; what cannot be read was applied.
            trace = await self._look(conversation_id, anchor, inputs)
            if trace.sight is Sight.NOTHING:
                raise
            return _found(conversation_id, trace)
        if not self._is_in_doubt:
            return Turn(answer)
        trace = trace_of(await self._api.history(conversation_id), anchor, inputs)
        if trace.sight is Sight.ANSWERED and not trace.has_more:
            return Turn(answer)
        if trace.sight is Sight.ANSWERED:
            return Turn(replace(answer, outputs=list(trace.outputs)), (TWICE,), is_left=TWICE)
        return Turn(answer, (FOREIGN,), is_left=FOREIGN)

    @property
    def _is_in_doubt(self) -> bool:
        request, known = self._request, self._known
        return request.attempt > 1 or request.in_doubt or (known is not None and known.had_attempts)

    async def _look(self, conversation_id: str, anchor: str | None, inputs: Sequence[Wire]) -> Trace:
        """Return what the history shows of the request.

        What has been answered for longer than any answer takes is given up, as something else.

        Raises:
            ModelOverloaded: it is still being answered.
        """
        trace = trace_of(await self._api.history(conversation_id), anchor, inputs)
        if trace.sight is Sight.PENDING:
            if self._request.attempt >= HOPELESS_ATTEMPT:
                return Trace(Sight.SOMETHING_ELSE)
            raise ModelOverloaded(409, "the request is still being answered", BUSY_SECONDS)
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
            is_left=turn.is_left if has_own_call_ids(entries) else ANONYMOUS,
            had_attempts=self._request.attempt > 1,
        )
        return ModelReply(
            entries=entries,
            usage=usage_of(answer.usage),
            handle=handle.model_dump(mode="json"),
            notes=turn.notes,
        )


def _found(conversation_id: str, trace: Trace) -> Turn | None:
    """Return the turn that the history shows, if it does not show something else."""
    if trace.sight is not Sight.ANSWERED:
        return None
    is_left = TWICE if trace.has_more else None
    return Turn(ConversationAnswer(conversation_id, list(trace.outputs)), (FOUND,), is_left)


def _status_of(error: Exception) -> Any:
    """Return the HTTP status of an SDK's error, or of ours; None of any other."""
    return getattr(error, "status_code", None) or getattr(error, "status", None)
