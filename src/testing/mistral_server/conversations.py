"""Conversations: the state behind `/v1/conversations`, and the work that a request starts.

The work of a request runs in its own task, and goes on if the client disconnects. Until it ends, the
conversation refuses every other request with status 409.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outlast.testing.mistral_server.agents import Agents, has_metadata
from outlast.testing.mistral_server.answers import CountedUsage, EntryWriter, ModelCaller, Speaker
from outlast.testing.mistral_server.bodies import (
    AppendConversation,
    CompletionArgs,
    RestartConversation,
    StartConversation,
)
from outlast.testing.mistral_server.errors import (
    ApiError,
    bad_request,
    being_updated,
    handoff_failed,
    internal,
    invalid_value,
    not_found,
)
from outlast.testing.mistral_server.history import History
from outlast.testing.mistral_server.identity import Identifiers, StandInClock
from outlast.testing.mistral_server.model import HandOff, Json, ModelPrompt

_HANDOFFS_MAX = 50


@dataclass(slots=True)
class StandInConversation:
    """One conversation on the server."""

    id: str
    created_at: str
    updated_at: str
    writer: EntryWriter
    agent_id: str | None
    agent_version: int | None
    bare_model: Json
    guardrails: list[Json] | None
    name: str | None
    description: str | None
    metadata: Json | None
    history: History
    busy: bool = False
    appended: bool = False

    @property
    def entries(self) -> Sequence[Json]:
        """The entries that the history endpoint shows now."""
        return tuple(self.history.entries)

    def to_wire(self) -> Json:
        about: Json = {
            "object": "conversation",
            "id": self.id,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "name": self.name,
            "description": self.description,
            "metadata": self.metadata,
        }
        if self.agent_id is not None:
            return about | {"agent_id": self.agent_id, "agent_version": self.agent_version}
        return about | self.bare_model | {"guardrails": self.guardrails}


@dataclass(frozen=True, slots=True)
class Assignment:
    """The work that one valid request asks for."""

    history: History
    allowed: Sequence[Json]
    completion_args: Json
    handoffs_by_server: bool
    store: bool


class ServerWork:
    """The work on one request. Iterating over it yields the output entries as they come."""

    def __init__(self, conversation: StandInConversation, assignment: Assignment) -> None:
        self.conversation = conversation
        self.assignment = assignment
        self.usage = CountedUsage()
        self._outputs: asyncio.Queue[Json | None] = asyncio.Queue()
        self._failure: ApiError | None = None

    def put(self, entry: Json) -> None:
        self.assignment.history.add(entry)
        self.usage.add_output(entry)
        self._outputs.put_nowait(entry)

    def end(self, failure: ApiError | None) -> None:
        self._failure = failure
        self._outputs.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Json]:
        """Yield each output entry; if the work fails, raise its error at the end."""
        while (entry := await self._outputs.get()) is not None:
            yield entry
        if self._failure is not None:
            raise self._failure


Pause = Callable[[], Awaitable[None]]


class Conversations:
    """All stored conversations, in the order of creation."""

    def __init__(
        self,
        agents: Agents,
        caller: ModelCaller,
        identifiers: Identifiers,
        clock: StandInClock,
        *,
        inputs_visible_at_once: bool,
        metadata_filter_works: bool,
    ) -> None:
        self.stored: dict[str, StandInConversation] = {}
        self._agents = agents
        self._caller = caller
        self._identifiers = identifiers
        self._clock = clock
        self._inputs_visible_at_once = inputs_visible_at_once
        self._metadata_filter_works = metadata_filter_works
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, conversation_id: str) -> StandInConversation:
        try:
            return self.stored[conversation_id]
        except KeyError:
            raise not_found("Conversation", conversation_id) from None

    def listed(self, metadata: Mapping[str, Any] | None) -> list[Json]:
        wanted = metadata if self._metadata_filter_works else None
        return [c.to_wire() for c in self.stored.values() if has_metadata(c.metadata, wanted)]

    def delete(self, conversation_id: str) -> None:
        if self.get(conversation_id).busy:
            raise being_updated()
        del self.stored[conversation_id]

    async def settled(self) -> None:
        """Return when there is no work on any request."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def start(self, body: StartConversation, raw: Json, pause: Pause) -> ServerWork:
        _check_start(body)
        version = (
            None if body.agent_id is None else self._agents.get(body.agent_id).number_of(body.agent_version)
        )
        identifier = self._identifiers.new("conv")
        now = self._clock.now()
        conversation = StandInConversation(
            id=identifier,
            created_at=now,
            updated_at=now,
            writer=EntryWriter(self._identifiers, self._clock, identifier),
            agent_id=body.agent_id,
            agent_version=version,
            bare_model=_bare_model(body),
            guardrails=body.guardrails,
            name=body.name,
            description=body.description,
            metadata=body.metadata,
            history=History(),
        )
        return self._begin(conversation, body, raw, pause)

    def append(self, conversation_id: str, body: AppendConversation, raw: Json, pause: Pause) -> ServerWork:
        conversation = self.get(conversation_id)
        if conversation.busy:
            raise being_updated()
        work = self._begin(conversation, body, raw, pause)
        conversation.appended = True
        return work

    def restart(self, conversation_id: str, body: RestartConversation, raw: Json, pause: Pause) -> ServerWork:
        """Start a new conversation with the entries of another conversation, up to a given entry."""
        origin = self.get(conversation_id)
        if origin.busy:
            raise being_updated()
        if not origin.appended:
            raise bad_request("Conversation cannot be restarted before something was appended to it")
        version = origin.agent_version
        if body.agent_version is not None:
            if origin.agent_id is None:
                raise bad_request("agent_version was given but the conversation has no agent")
            version = self._agents.get(origin.agent_id).number_of(body.agent_version)
        identifier = self._identifiers.new("conv")
        now = self._clock.now()
        branch = StandInConversation(
            id=identifier,
            created_at=now,
            updated_at=now,
            writer=origin.writer.for_branch(identifier),
            agent_id=origin.agent_id,
            agent_version=version,
            bare_model=origin.bare_model,
            guardrails=body.guardrails or origin.guardrails,
            name=origin.name,
            description=origin.description,
            metadata=origin.metadata if body.metadata is None else body.metadata,
            history=origin.history.up_to(body.from_entry_id),
        )
        return self._begin(branch, body, raw, pause)

    def _begin(
        self,
        conversation: StandInConversation,
        body: StartConversation | AppendConversation | RestartConversation,
        raw: Json,
        pause: Pause,
    ) -> ServerWork:
        inputs = conversation.writer.inputs(body.inputs, raw.get("inputs", []))
        confirmations = (body.tool_confirmations or []) if isinstance(body, AppendConversation) else []
        history = conversation.history.copy()
        allowed = history.accept(inputs, {c.tool_call_id: c.confirmation for c in confirmations})
        store = body.store is not False
        assignment = Assignment(
            history=history,
            allowed=allowed,
            completion_args=given_args(body.completion_args),
            handoffs_by_server=body.handoff_execution != "client",
            store=store,
        )
        is_new = conversation.id not in self.stored
        if store and is_new:
            self.stored[conversation.id] = conversation
        work = ServerWork(conversation, assignment)
        conversation.busy = True
        task = asyncio.get_running_loop().create_task(self._run(work, pause, is_new=is_new))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return work

    async def _run(self, work: ServerWork, pause: Pause, *, is_new: bool) -> None:
        conversation, assignment = work.conversation, work.assignment
        before = conversation.history
        if assignment.store and self._inputs_visible_at_once:
            conversation.history = assignment.history.copy()
        failure: ApiError | None = internal("The server is shutting down")
        try:
            await pause()
            await self._answer(work)
            failure = None
        except ApiError as error:
            failure = error
        except Exception as error:
            failure = self._caller.failed(error)
        finally:
            if failure is None and assignment.store:
                conversation.history = assignment.history
                conversation.updated_at = self._clock.now()
            else:
                conversation.history = before
                if is_new:
                    self.stored.pop(conversation.id, None)
            conversation.busy = False
            work.end(failure)

    async def _answer(self, work: ServerWork) -> None:
        conversation, assignment = work.conversation, work.assignment
        speaker = self._speaker(conversation, assignment.history.handed_to)
        for call in assignment.allowed:
            work.put(conversation.writer.allowed(call))
        for _ in range(_HANDOFFS_MAX):
            history = assignment.history
            work.usage.add_prompt(speaker, history.words)
            reply = await self._caller.ask(_prompt(speaker, assignment))
            for entry in conversation.writer.outputs(reply, speaker):
                work.put(entry)
            if not reply or not isinstance(reply[-1], HandOff):
                return
            following = self._agent(speaker.handoffs[reply[-1].to], None)
            work.put(conversation.writer.handoff(speaker, following))
            speaker = following
            if not assignment.handoffs_by_server:
                return
        raise handoff_failed()

    def _speaker(self, conversation: StandInConversation, handed_to: str | None) -> Speaker:
        if handed_to is not None and handed_to != conversation.agent_id:
            return self._agent(handed_to, None)
        if conversation.agent_id is not None:
            return self._agent(conversation.agent_id, conversation.agent_version)
        bare = conversation.bare_model
        return Speaker(bare["model"], bare["instructions"], bare["tools"], set_args(bare["completion_args"]))

    def _agent(self, agent_id: str, version: int | None) -> Speaker:
        agent = self._agents.get(agent_id).at(version)
        return Speaker(
            model=agent["model"],
            instructions=agent["instructions"],
            tools=agent["tools"],
            completion_args=set_args(agent["completion_args"]),
            agent_id=agent_id,
            agent_name=agent["name"],
            handoffs=self._agents.names(agent["handoffs"] or ()),
        )


def given_args(arguments: CompletionArgs | None) -> Json:
    """Return the completion arguments that are set in the request."""
    if arguments is None:
        return {}
    return arguments.model_dump(mode="json", by_alias=True, exclude_unset=True)


def set_args(stored: Json) -> Json:
    """Return stored completion arguments without those that are null."""
    return {name: value for name, value in stored.items() if value is not None}


def _prompt(speaker: Speaker, assignment: Assignment) -> ModelPrompt:
    return ModelPrompt(
        endpoint="conversations",
        model=speaker.model,
        agent=speaker.agent_name,
        agent_id=speaker.agent_id,
        instructions=speaker.instructions,
        tools=speaker.tools,
        entries=tuple(assignment.history.entries),
        completion_args=speaker.completion_args | assignment.completion_args,
        replies=assignment.history.replies.count,
        handoffs=tuple(speaker.handoffs),
    )


def _check_start(body: StartConversation) -> None:
    if (body.agent_id is None) == (body.model is None):
        raise invalid_value("give either agent_id or model", "body", value=None)
    if body.agent_id is not None:
        for name in ("instructions", "tools"):
            if getattr(body, name) is not None:
                raise invalid_value(
                    f"{name} belong to the agent, not to a conversation with it", "body", name, value=None
                )
    elif body.agent_version is not None:
        raise invalid_value("agent_version needs agent_id", "body", "agent_version", value=body.agent_version)


def _bare_model(body: StartConversation) -> Json:
    arguments = body.completion_args or CompletionArgs()
    return {
        "model": body.model,
        "instructions": body.instructions,
        "tools": [tool.model_dump(mode="json", exclude_none=True) for tool in body.tools or ()],
        "completion_args": arguments.model_dump(mode="json", by_alias=True),
    }
