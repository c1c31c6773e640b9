"""The contract suite of the session port: inherit `SessionContract` and say how to open a world.

    class TestMySession(SessionContract):
        capabilities = frozenset({SessionCapability.SERVER})

        @contextmanager
        def open(self, program: SessionProgram) -> Iterator[SessionWorld]: ...

A program is the list of the model's replies; a world is a session whose model gives these replies. Complete
conversations are driven through the agent machine, so the suite compares exactly the entries that a run would
see. The promises S1 to S9 are those of `ports.llm.Session`.
"""

from __future__ import annotations

import asyncio
import copy
import json
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.adapters.scripted import call, handoff, say
from outlast.core.agent_run import AgentRun, Phase
from outlast.core.entries import (
    Entry,
    FunctionCall,
    FunctionResult,
    MessageInput,
    MessageOutput,
)
from outlast.core.errors import (
    ModelOverloaded,
    OutlastError,
)
from outlast.core.failure import Failure
from outlast.core.replies import open_function_calls
from outlast.ports.llm import ModelReply, Session
from outlast.ports.resources import Resources
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.testing.contracts.asyncio_tests import AsyncioTests
from outlast.testing.contracts.examples import few_examples
from outlast.testing.contracts.session.programs import (
    ERRORS,
    TRANSIENT,
    ConversationDriver,
    SessionProgram,
    SessionWorld,
    Trouble,
    foreseen,
    programs,
    seen,
)

T = TypeVar("T")


class SessionCapability(StrEnum):
    """The features that only some sessions have."""

    SERVER = "it talks to a server, which can fail"
    MEMORY = "its server keeps the conversation, so that a repeated request must not add to it"
    USAGE = "it reports what a reply cost"


ANSWER = SessionProgram(((say("It rains."),),))
ERRAND = SessionProgram(((say("Let me see."), call("look_up", {"city": "Lyon"})), (say("It rains."),)))


class CountedResources(Resources):
    """Resources that remember every request for them."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self.keys: set[Hashable] = set()

    async def get(self, key: Hashable, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        self.keys.add(key)
        return await self._resources.get(key, make)

    def hold_back(self, key: Hashable, seconds: float) -> None:
        self._resources.hold_back(key, seconds)

    def held_back(self, key: Hashable) -> float:
        return self._resources.held_back(key)


class SessionContract(AsyncioTests):
    """The tests. Inherit it, and give `open` and `capabilities`."""

    capabilities: ClassVar[frozenset[SessionCapability]] = frozenset()

    def open(self, program: SessionProgram) -> AbstractContextManager[SessionWorld]:
        """Return a world in which every conversation follows `program`."""
        raise NotImplementedError

    def need(self, capability: SessionCapability) -> None:
        if capability not in self.capabilities:
            pytest.skip(f"needs a session of which this is true: {capability.value}")

    async def converse(
        self,
        program: SessionProgram,
        troubles: Sequence[Trouble | None] = (),
        check: Callable[[ConversationDriver, AgentRun], None] | None = None,
    ) -> None:
        """Run a program to its end, and compare the conversation with the expected one."""
        with self.open(program) as world:
            async with SharedResources() as resources:
                world.session.check(world.graph)
                conversation = ConversationDriver(world, resources, program.added, deque(troubles))
                state = await conversation.run("Go.")
                assert seen(conversation.history) == foreseen("Go.", program)
                assert state.phase is Phase.FINISHED
                assert state.agent == program.speakers[-1]
                if SessionCapability.MEMORY in self.capabilities:
                    # S3: a reply that was lost on its way is not generated again.
                    assert world.asked() == len(program.replies)
                if check is not None:
                    check(conversation, state)

    # Replies -----------------------------------------------------------------------------------------

    async def test_a_plain_answer_comes_back_whole(self) -> None:
        await self.converse(ANSWER)

    async def test_the_published_deltas_are_the_text_of_the_reply(self) -> None:
        """S6. A reply that comes in one piece need not be published."""
        program = SessionProgram(((say("Let me see: é, 🙂.\n"), call("look_up", {})), (say("It rains."),)))
        with self.open(program) as world:
            async with SharedResources() as resources:
                conversation = ConversationDriver(world, resources)
                request = conversation.request("front", (MessageInput(content="Go."),))
                pieces: list[str] = []
                await world.session.reply(request, resources, pieces.append)
                assert "".join(pieces) in ("", "Let me see: é, 🙂.\n")

    async def test_parallel_calls_keep_their_order_and_get_their_own_results(self) -> None:
        made = (call("look_up", {"n": 1}), call("rhyme", {"n": 2}), call("look_up", {"n": 3}))

        def ids_differ(conversation: ConversationDriver, _: AgentRun) -> None:
            ids = [e.tool_call_id for e in conversation.history if isinstance(e, FunctionCall)]
            answered = [e.tool_call_id for e in conversation.history if isinstance(e, FunctionResult)]
            assert len(set(ids)) == 3
            assert answered == ids

        await self.converse(SessionProgram((made, (say("Done."),))), check=ids_differ)

    async def test_handoffs_go_round_in_circles(self) -> None:
        replies = ((handoff("poet"),), (handoff("front"),), (say("Over."), handoff("poet")), (say("Done."),))
        await self.converse(SessionProgram(replies))

    async def test_a_reply_with_a_handoff_behind_calls_leads_to_the_other_agent(self) -> None:
        program = SessionProgram(((call("look_up", {"n": 1}), handoff("poet")), (say("Rain, rain."),)))
        with self.open(program) as world:
            async with SharedResources() as resources:
                conversation = ConversationDriver(world, resources)
                state = await conversation.run("Go.")
                assert state.phase is Phase.FINISHED
                assert state.agent == "poet"
                assert seen(conversation.history)[-1] == ("says", "Rain, rain.")
                assert not open_function_calls(conversation.replies[-1].entries)

    async def test_arguments_that_are_not_json_do_not_end_the_conversation(self) -> None:
        program = SessionProgram(((call("look_up", '{"city": "Ly'),), (say("Never mind."),)))
        with self.open(program) as world:
            async with SharedResources() as resources:
                conversation = ConversationDriver(world, resources)
                await conversation.run("Go.")
                assert seen(conversation.history)[-1] == ("says", "Never mind.")

    async def test_chunks_of_unknown_types_are_kept_and_end_no_conversation(self) -> None:
        chunks: Any = [{"type": "text", "text": "Look: "}, {"type": "hologram", "beams": [1, 2]}]
        reply = MessageOutput.model_validate({"content": chunks})
        with self.open(SessionProgram(((reply, call("look_up", {})), (say("Done."),)))) as world:
            async with SharedResources() as resources:
                conversation = ConversationDriver(world, resources)
                await conversation.run("Go.")
                first = conversation.replies[0].entries[0]
                assert first.to_wire()["content"] == chunks
                assert seen(conversation.history)[-1] == ("says", "Done.")

    async def test_a_result_that_utf8_cannot_carry_does_no_harm(self) -> None:
        with self.open(ERRAND) as world:
            async with SharedResources() as resources:
                conversation = ConversationDriver(world, resources)
                reply = await conversation.ask("front", (MessageInput(content="Go \ud83d."),))
                conversation.history += reply.entries
                (made,) = open_function_calls(reply.entries)
                result = FunctionResult(tool_call_id=made.tool_call_id, result="half a pair: \ud83d")
                reply = await conversation.ask("front", (result,))
                assert seen(reply.entries) == [("says", "It rains.")]

    async def test_a_second_run_goes_on_with_the_conversation(self) -> None:
        program = SessionProgram((*ERRAND.replies, (say("And snows."),)))
        with self.open(program) as world:
            async with SharedResources() as resources:
                conversation = ConversationDriver(world, resources)
                await conversation.run("Weather?")
                await conversation.run("And tomorrow?")
                assert seen(conversation.history)[-2:] == [("asks", "And tomorrow?"), ("says", "And snows.")]

    async def test_a_second_run_may_begin_with_another_agent_than_the_first_ended_with(self) -> None:
        program = SessionProgram(
            ((handoff("poet"),), (say("Rain, rain."),), (say("Anything else?"),)), begins=frozenset({2})
        )
        with self.open(program) as world:
            async with SharedResources() as resources:
                conversation = ConversationDriver(world, resources)
                assert (await conversation.run("A poem.")).agent == "poet"
                assert (await conversation.run("Thanks.")).agent == "front"
                assert seen(conversation.history)[-1] == ("says", "Anything else?")

    @given(program=programs())
    @few_examples(12)
    async def test_any_conversation_goes_as_its_program_says(self, program: SessionProgram) -> None:
        await self.converse(program)

    async def test_conversations_of_one_session_do_not_mix(self) -> None:
        program = SessionProgram((*ERRAND.replies[:1], (handoff("poet"),), (say("Done."),)))
        with self.open(program) as world:
            async with SharedResources() as resources:
                counted = CountedResources(resources)
                many = [ConversationDriver(world, counted, key=f"run-{number}") for number in range(4)]
                await asyncio.gather(*(one.run(f"Go {n}.") for n, one in enumerate(many)))
                for number, one in enumerate(many):
                    assert seen(one.history) == foreseen(f"Go {number}.", program)
                # S4: all share one connection, to any kind of server.
                assert len(counted.keys) <= 1

    async def test_usage_is_counted_for_every_reply(self) -> None:
        self.need(SessionCapability.USAGE)

        def is_counted(conversation: ConversationDriver, state: AgentRun) -> None:
            for reply in conversation.replies:
                assert reply.usage.prompt_tokens > 0
                assert reply.usage.completion_tokens > 0
            assert state.usage.total_tokens == sum(reply.usage.total_tokens for reply in conversation.replies)

        await self.converse(ERRAND, check=is_counted)

    async def test_s8_a_reply_has_a_cost_or_names_the_models_without_a_price(self) -> None:
        self.need(SessionCapability.USAGE)
        replies: list[ModelReply] = []
        models: set[str] = set()
        sessions: list[Session] = []

        def keep(conversation: ConversationDriver, _: AgentRun) -> None:
            world = conversation.world
            models.update(agent.model for agent in world.graph.agents.values())
            sessions.append(world.session)
            replies.extend(conversation.replies)

        program = SessionProgram((*ERRAND.replies[:1], (handoff("poet"),), (say("Done."),)))
        await self.converse(program, check=keep)
        unknown = set(await sessions[0].unpriced(models))
        assert unknown <= models
        for usage in (reply.usage for reply in replies):
            assert set(usage.unpriced) <= unknown
            assert usage.has_cost or usage.unpriced or unknown == models
            assert not usage.has_cost or usage.cost > 0

    # Values ------------------------------------------------------------------------------------------

    async def test_the_handle_is_json_of_constant_size_without_transcript_or_secret(self) -> None:
        program = SessionProgram((*([(call("look_up", {"n": 1}),)] * 8), (say("It rains."),)))

        def is_small(conversation: ConversationDriver, _: AgentRun) -> None:
            written = [json.dumps(handle) for handle in conversation.handles]
            assert max(map(len, written)) - min(map(len, written)) <= 8
            for text in written:
                assert conversation.world.secret not in text
                assert "Go." not in text
                assert "It rains." not in text

        await self.converse(program, check=is_small)

    async def test_a_session_is_a_value(self) -> None:
        with self.open(ANSWER) as world:
            session = world.session
            before = repr(session)
            assert copy.copy(session) == session
            assert world.secret not in before
            with pytest.raises((AttributeError, TypeError, ValueError)):
                session.stream = not session.stream
            async with SharedResources() as resources:
                await ConversationDriver(world, resources).run("Go.")
            assert repr(session) == before

    async def test_the_model_is_offered_the_tools_of_each_request_and_gets_its_choice(self) -> None:
        """S9."""
        self.need(SessionCapability.SERVER)
        program = SessionProgram(((call("look_up", {}),), (call("rhyme", {}),), (say("It rains."),)))
        with self.open(program) as world:
            async with SharedResources() as resources:
                conversation = ConversationDriver(world, resources)
                new: tuple[Entry, ...] = (MessageInput(content="Go."),)
                for tools, choice in ((1, "required"), (2, "auto"), (2, "none")):
                    front = world.graph["front"]
                    front = front.with_(tools=front.tools[:tools], tool_choice="required")
                    graph = world.graph.with_(agents={**world.graph.agents, "front": front})
                    request = conversation.request("front", new).with_(
                        graph=graph, tool_choice=choice, may_call=choice != "none"
                    )
                    reply = await world.session.reply(request, resources)
                    conversation.accept(new, reply)
                    new = tuple(
                        FunctionResult(tool_call_id=one.tool_call_id, result="wet")
                        for one in open_function_calls(reply.entries)
                    )
                assert seen(conversation.history)[-1] == ("says", "It rains.")
                assert world.offered() == [
                    (("look_up",), "required"),
                    (("look_up", "rhyme"), "auto"),
                    (("look_up", "rhyme"), "none"),
                ]

    # Repetition --------------------------------------------------------------------------------------

    async def test_the_same_request_again_gives_the_same_turn(self) -> None:
        with self.open(ERRAND) as world:
            async with SharedResources() as resources:
                conversation = ConversationDriver(world, resources)
                start = conversation.request("front", (MessageInput(content="Go."),))
                reply = await world.session.reply(start, resources)
                again = await world.session.reply(start.with_(attempt=2), resources)
                assert seen(again.entries) == seen(reply.entries)
                (made,) = open_function_calls(again.entries)
                more = start.with_(
                    turn=2,
                    history=(*start.new, *again.entries),
                    new=(FunctionResult(tool_call_id=made.tool_call_id, result="wet"),),
                    handle=again.handle,
                    idempotency_key=f"{start.idempotency_key}/next",
                )
                last = await world.session.reply(more, resources)
                last_again = await world.session.reply(more.with_(attempt=2), resources)
                assert seen(last.entries) == seen(last_again.entries) == [("says", "It rains.")]
                if SessionCapability.MEMORY in self.capabilities:
                    assert world.asked() == 2

    @given(program=programs(), troubles=st.lists(st.none() | st.sampled_from(TRANSIENT), max_size=6))
    @few_examples(12)
    async def test_passing_troubles_change_nothing(
        self, program: SessionProgram, troubles: list[Trouble | None]
    ) -> None:
        self.need(SessionCapability.SERVER)
        await self.converse(program, troubles)

    # Errors ------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("is_first", [True, False], ids=["first request", "later request"])
    @pytest.mark.parametrize("trouble", Trouble, ids=lambda trouble: trouble.name.lower())
    async def test_troubles_are_our_errors(self, trouble: Trouble, is_first: bool) -> None:
        self.need(SessionCapability.SERVER)
        with self.open(ERRAND) as world:
            async with SharedResources() as resources:
                conversation = ConversationDriver(world, resources)
                request = conversation.request("front", (MessageInput(content="Go."),))
                if not is_first:
                    reply = await conversation.ask("front", request.new)
                    conversation.history += reply.entries
                    (made,) = open_function_calls(reply.entries)
                    request = conversation.request(
                        "front", (FunctionResult(tool_call_id=made.tool_call_id, result="wet"),)
                    )
                world.trouble(trouble, request)
                try:
                    reply = await world.session.reply(request, resources)
                except OutlastError as error:
                    self.check_error(error, trouble, world)
                    # S7: only what the server asks for is left alone, and only the model that was asked.
                    held = [
                        resources.held_back(model)
                        for agent in world.graph.agents.values()
                        for model in world.session.models_asked(agent)
                    ]
                    assert [0 < one <= 7 for one in held] == [trouble is Trouble.RATE_LIMITED, False]
                else:
                    # S1: a session may find the complete reply by other means, but must never invent one.
                    assert trouble is Trouble.GARBLED
                    expected = foreseen("Go.", ERRAND)
                    assert seen(reply.entries) == (expected[1:3] if is_first else expected[-1:])

    def check_error(self, error: OutlastError, trouble: Trouble, world: SessionWorld) -> None:
        assert type(error) is ERRORS[trouble]
        assert type(Failure.of(error).error()) is type(error)
        if trouble not in (Trouble.GARBLED, Trouble.CUT):
            # The end of a stream can be missing without an exception.
            assert error.__cause__ is not None
        if trouble is Trouble.RATE_LIMITED:
            assert isinstance(error, ModelOverloaded)
            assert error.retry_after_seconds == 7
        shown = "".join(traceback.format_exception(error))
        assert world.secret not in shown + repr(error) + repr(error.__cause__)
        assert len(str(error)) < 1_000

    async def test_cancelling_a_request_ends_it(self) -> None:
        self.need(SessionCapability.SERVER)
        with self.open(ANSWER) as world:
            async with SharedResources() as resources:
                request = ConversationDriver(world, resources).request(
                    "front", (MessageInput(content="Go."),)
                )
                hanging = world.hang(request)
                task = asyncio.create_task(world.session.reply(request, resources))
                await hanging.reached()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                hanging.release()
                reply = await world.session.reply(request.with_(attempt=2), resources)
                assert seen(reply.entries) == [("says", "It rains.")]
