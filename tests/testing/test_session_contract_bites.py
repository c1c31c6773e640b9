"""The session contract bites: a sound session in memory keeps it, and each broken one fails a test of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest

from outlast.core.agents import AgentGraph, AgentSpec
from outlast.core.chunks import as_chunks
from outlast.core.entries import FunctionCall, FunctionResult, MessageOutput
from outlast.core.errors import (
    MalformedReply,
    ModelOverloaded,
    ModelRefused,
    ModelUnreachable,
    OutlastError,
)
from outlast.core.replies import open_function_calls
from outlast.core.usage import Usage
from outlast.ports.deltas import Publish
from outlast.ports.llm import ModelReply, ModelRequest, Session
from outlast.ports.resources import Resources
from outlast.testing.contracts.session.contract import SessionCapability, SessionContract
from outlast.testing.contracts.session.programs import (
    ERRORS,
    Hanging,
    Offer,
    SessionProgram,
    SessionWorld,
    Trouble,
    graph_for,
)

SECRET = "key-51e2c97f3a"
AFTERWARDS = frozenset({Trouble.LOST, Trouble.CUT, Trouble.GARBLED})


class Held(Hanging):
    def __init__(self) -> None:
        self.is_reached = asyncio.Event()
        self.is_released = asyncio.Event()

    async def reached(self) -> None:
        await self.is_reached.wait()

    def release(self) -> None:
        self.is_released.set()


@dataclass(eq=False)
class Cloud:
    """A server in memory: it follows the program, and gives the same answer to the same key."""

    program: SessionProgram
    made: dict[str, ModelReply] = field(default_factory=dict)
    trouble: Trouble | None = None
    held: Held | None = None
    offers: list[Offer] = field(default_factory=list)

    def answer(self, request: ModelRequest, number: int) -> ModelReply:
        if request.idempotency_key in self.made:
            return self.made[request.idempotency_key]
        ids = {call.tool_call_id for made in self.made.values() for call in open_function_calls(made.entries)}
        given = {entry.tool_call_id for entry in request.new if isinstance(entry, FunctionResult)}
        if not given <= ids:
            raise ModelRefused(400, f"unexpected tool call ids: {given - ids}")
        entries = tuple(
            entry.model_copy(update={"tool_call_id": f"call{number}x{position}"})
            if isinstance(entry, FunctionCall)
            else entry
            for position, entry in enumerate(self.program.replies[number])
        )
        usage = Usage(prompt_tokens=5, completion_tokens=3, total_tokens=8)
        reply = ModelReply(entries=entries, usage=usage, handle={"replies": number + 1})
        self.made[request.idempotency_key] = reply
        return reply


@dataclass(frozen=True)
class SoundSession(Session):
    """A session that keeps the contract, with each duty in a method of its own, for the broken ones."""

    cloud: Cloud
    raise_on_tool_fail: bool = False
    stream: bool = False

    def check(self, graph: AgentGraph) -> None: ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}(stream={self.stream})"

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        await resources.get(self.connection(request), connected)
        if (held := self.cloud.held) is not None:
            self.cloud.held = None
            held.is_reached.set()
            await held.is_released.wait()
        trouble, self.cloud.trouble = self.cloud.trouble, None
        if trouble is not None and trouble not in AFTERWARDS:
            error = self.error(trouble)
            self.respect(error, request.graph[request.agent], resources)
            raise error from OSError("no")
        self.cloud.offers.append(self.offer(request))
        reply = self.cloud.answer(request, self.number(request))
        if trouble is not None:
            return self.lost(trouble, reply)
        return self.delivered(reply)

    def offer(self, request: ModelRequest) -> Offer:
        agent = request.graph[request.agent]
        return tuple(tool.name for tool in agent.tools), str(request.choice)

    def respect(self, error: OutlastError, agent: AgentSpec, resources: Resources) -> None:
        if isinstance(error, ModelOverloaded) and error.retry_after_seconds:
            for model in self.models_asked(agent):
                resources.hold_back(model, error.retry_after_seconds)

    def models_asked(self, agent: AgentSpec) -> list[str]:
        return [agent.model]

    def connection(self, request: ModelRequest) -> str:
        return "cloud"

    def number(self, request: ModelRequest) -> int:
        return int(request.handle["replies"]) if isinstance(request.handle, dict) else 0  # type: ignore[arg-type]  # an object here

    def error(self, trouble: Trouble) -> OutlastError:
        match ERRORS[trouble]:
            case kind if kind is ModelOverloaded:
                return ModelOverloaded(503, "later", 7 if trouble is Trouble.RATE_LIMITED else None)
            case kind if kind is ModelRefused:
                return ModelRefused(401, "no")
            case kind if kind is ModelUnreachable:
                return ModelUnreachable("cut")
        return MalformedReply("no reply")

    def lost(self, trouble: Trouble, reply: ModelReply) -> ModelReply:
        raise self.error(trouble) from OSError("no")

    def delivered(self, reply: ModelReply) -> ModelReply:
        return reply


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    yield


@dataclass
class MemoryWorld:
    session: Session
    graph: AgentGraph
    cloud: Cloud
    secret: str = SECRET

    def asked(self) -> int:
        return len(self.cloud.made)

    def offered(self) -> list[Offer]:
        return self.cloud.offers

    def trouble(self, trouble: Trouble, request: ModelRequest) -> None:
        self.cloud.trouble = trouble

    def hang(self, request: ModelRequest) -> Held:
        self.cloud.held = Held()
        return self.cloud.held


class MemoryContract(SessionContract):
    capabilities = frozenset(SessionCapability)
    kind: ClassVar[Callable[..., Session]] = SoundSession

    @contextmanager
    def open(self, program: SessionProgram) -> Iterator[SessionWorld]:
        cloud = Cloud(program)
        yield MemoryWorld(type(self).kind(cloud), graph_for("memory"), cloud)


class TestASoundSession(MemoryContract):
    """A sound session: it passes, so the failures below are those of the broken sessions."""


# Broken sessions -----------------------------------------------------------------------------------------


class LosesItsPlace(SoundSession):
    """Keeps the conversation on the object and not in the handle."""

    def number(self, request: ModelRequest) -> int:
        return len(self.cloud.made)


class MixesUpIds(SoundSession):
    def delivered(self, reply: ModelReply) -> ModelReply:
        wrong = {"tool_call_id": "same"}
        return reply.with_(
            entries=tuple(
                entry.model_copy(update=wrong) if isinstance(entry, FunctionCall) else entry
                for entry in reply.entries
            )
        )


class TurnsCallsRound(SoundSession):
    def delivered(self, reply: ModelReply) -> ModelReply:
        return reply.with_(entries=tuple(reversed(reply.entries)))


class DropsWhatItDoesNotKnow(SoundSession):
    def delivered(self, reply: ModelReply) -> ModelReply:
        def known(entry: Any) -> Any:
            if not isinstance(entry, MessageOutput):
                return entry
            return MessageOutput(
                content=tuple(chunk for chunk in as_chunks(entry.content) if chunk.type == "text")
            )

        return reply.with_(entries=tuple(map(known, reply.entries)))


class CountsNothing(SoundSession):
    def delivered(self, reply: ModelReply) -> ModelReply:
        return reply.with_(usage=Usage())


class SaysNoCost(SoundSession):
    async def unpriced(self, models: Collection[str]) -> tuple[str, ...]:
        return ()


class PutsTheTranscriptIntoTheHandle(SoundSession):
    def delivered(self, reply: ModelReply) -> ModelReply:
        said = [entry.to_wire() for made in self.cloud.made.values() for entry in made.entries]
        return reply.with_(handle={**dict(reply.handle), "said": said})  # type: ignore[arg-type]  # an object here


class PutsTheKeyIntoTheHandle(SoundSession):
    def delivered(self, reply: ModelReply) -> ModelReply:
        return reply.with_(handle={**dict(reply.handle), "key": SECRET})  # type: ignore[arg-type]  # an object here


class ReturnsAHandleThatIsNotJson(SoundSession):
    def delivered(self, reply: ModelReply) -> ModelReply:
        return reply.with_(handle=object())


class ShowsItsKey(SoundSession):
    def __repr__(self) -> str:
        return f"ShowsItsKey({SECRET})"


@dataclass
class CanBeChanged(Session):
    """Is not frozen."""

    cloud: Cloud
    raise_on_tool_fail: bool = False
    stream: bool = False

    def check(self, graph: AgentGraph) -> None: ...

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        return await SoundSession(self.cloud).reply(request, resources, publish)


class AsksAgain(SoundSession):
    """Does not look for the effect of a request that it repeats."""

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        if request.attempt > 1:
            key = f"{request.idempotency_key}/{request.attempt}"
            request = request.with_(idempotency_key=key, attempt=1)
        return await super().reply(request, resources, publish)


class TakesACutReplyForAWholeOne(SoundSession):
    def lost(self, trouble: Trouble, reply: ModelReply) -> ModelReply:
        return reply.with_(entries=reply.entries[:1])


class MakesUpAReply(SoundSession):
    def lost(self, trouble: Trouble, reply: ModelReply) -> ModelReply:
        if trouble is Trouble.GARBLED:
            return reply.with_(entries=(MessageOutput(content=""),))
        return super().lost(trouble, reply)


class LetsForeignErrorsThrough(SoundSession):
    def error(self, trouble: Trouble) -> OutlastError:
        raise OSError("no")


class CallsEveryErrorPassing(SoundSession):
    def error(self, trouble: Trouble) -> OutlastError:
        return ModelUnreachable("cut")


class ForgetsWhenToComeBack(SoundSession):
    def error(self, trouble: Trouble) -> OutlastError:
        error = super().error(trouble)
        return replace(error, retry_after_seconds=None) if isinstance(error, ModelOverloaded) else error


class TellsNobodyWhenToComeBack(SoundSession):
    def respect(self, error: OutlastError, agent: AgentSpec, resources: Resources) -> None: ...


class HoldsBackAllModels(SoundSession):
    def models_asked(self, agent: AgentSpec) -> list[str]:
        return ["any"]


class OffersWhatItOfferedFirst(SoundSession):
    def offer(self, request: ModelRequest) -> Offer:
        tools, choice = super().offer(request)
        return (self.cloud.offers[0][0] if self.cloud.offers else tools), choice


class LetsTheModelChoose(SoundSession):
    def offer(self, request: ModelRequest) -> Offer:
        tools, choice = super().offer(request)
        return tools, "none" if choice == "none" else "auto"


class PutsItsKeyInErrors(SoundSession):
    def error(self, trouble: Trouble) -> OutlastError:
        return (
            ModelRefused(401, f"no: {SECRET}") if trouble is Trouble.UNAUTHORISED else super().error(trouble)
        )


class HidesTheCause(SoundSession):
    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        try:
            return await super().reply(request, resources, publish)
        except OutlastError as error:
            raise error from None


class CannotBeCancelled(SoundSession):
    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        try:
            return await super().reply(request, resources, publish)
        except asyncio.CancelledError:
            return await super().reply(request, resources, publish)


class PublishesItsThoughtsAsWell(SoundSession):
    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        if publish is not None:
            publish("Hm. ")
        return await super().reply(request, resources, publish)


class ConnectsForEveryRequest(SoundSession):
    def connection(self, request: ModelRequest) -> str:
        return json.dumps([request.idempotency_key, request.attempt])


OFFERS = "test_the_model_is_offered_the_tools_of_each_request_and_gets_its_choice"
BROKEN: list[tuple[Callable[..., Session], str, dict[str, Any]]] = [
    (LosesItsPlace, "test_conversations_of_one_session_do_not_mix", {}),
    (MixesUpIds, "test_parallel_calls_keep_their_order_and_get_their_own_results", {}),
    (TurnsCallsRound, "test_parallel_calls_keep_their_order_and_get_their_own_results", {}),
    (DropsWhatItDoesNotKnow, "test_chunks_of_unknown_types_are_kept_and_end_no_conversation", {}),
    (SaysNoCost, "test_s8_a_reply_has_a_cost_or_names_the_models_without_a_price", {}),
    (CountsNothing, "test_usage_is_counted_for_every_reply", {}),
    (
        PutsTheTranscriptIntoTheHandle,
        "test_the_handle_is_json_of_constant_size_without_transcript_or_secret",
        {},
    ),
    (PutsTheKeyIntoTheHandle, "test_the_handle_is_json_of_constant_size_without_transcript_or_secret", {}),
    (ReturnsAHandleThatIsNotJson, "test_a_plain_answer_comes_back_whole", {}),
    (ShowsItsKey, "test_a_session_is_a_value", {}),
    (CanBeChanged, "test_a_session_is_a_value", {}),
    (AsksAgain, "test_the_same_request_again_gives_the_same_turn", {}),
    (TakesACutReplyForAWholeOne, "test_troubles_are_our_errors", {"trouble": Trouble.CUT, "is_first": True}),
    (MakesUpAReply, "test_troubles_are_our_errors", {"trouble": Trouble.GARBLED, "is_first": False}),
    (
        LetsForeignErrorsThrough,
        "test_troubles_are_our_errors",
        {"trouble": Trouble.DROPPED, "is_first": True},
    ),
    (CallsEveryErrorPassing, "test_troubles_are_our_errors", {"trouble": Trouble.REFUSED, "is_first": True}),
    (
        ForgetsWhenToComeBack,
        "test_troubles_are_our_errors",
        {"trouble": Trouble.RATE_LIMITED, "is_first": True},
    ),
    (
        TellsNobodyWhenToComeBack,
        "test_troubles_are_our_errors",
        {"trouble": Trouble.RATE_LIMITED, "is_first": True},
    ),
    (
        HoldsBackAllModels,
        "test_troubles_are_our_errors",
        {"trouble": Trouble.RATE_LIMITED, "is_first": True},
    ),
    (
        PutsItsKeyInErrors,
        "test_troubles_are_our_errors",
        {"trouble": Trouble.UNAUTHORISED, "is_first": True},
    ),
    (OffersWhatItOfferedFirst, OFFERS, {}),
    (LetsTheModelChoose, OFFERS, {}),
    (HidesTheCause, "test_troubles_are_our_errors", {"trouble": Trouble.UNAVAILABLE, "is_first": True}),
    (PublishesItsThoughtsAsWell, "test_the_published_deltas_are_the_text_of_the_reply", {}),
    (CannotBeCancelled, "test_cancelling_a_request_ends_it", {}),
    (ConnectsForEveryRequest, "test_conversations_of_one_session_do_not_mix", {}),
]


@pytest.mark.parametrize(("kind", "test", "arguments"), BROKEN, ids=[case[0].__name__ for case in BROKEN])
async def test_a_broken_session_fails(
    kind: Callable[..., Session], test: str, arguments: dict[str, Any]
) -> None:
    class Suite(MemoryContract):
        pass

    Suite.kind = kind
    with pytest.raises((Exception, pytest.fail.Exception)) as failure:
        async with asyncio.timeout(5):
            await getattr(Suite(), test)(**arguments)
    assert not isinstance(failure.value, pytest.skip.Exception)
