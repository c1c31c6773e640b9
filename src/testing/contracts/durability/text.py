"""The text of a reply that is being written, as D13 promises it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from outlast.adapters.scripted import ScriptedSession, say
from outlast.composition.running import Runner
from outlast.core.errors import ModelUnreachable
from outlast.core.event_stream import Event
from outlast.core.events import EventKind, TextDeltaData
from outlast.ports.deltas import Publish
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.agent import Agent
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events, data_of
from outlast.testing.contracts.durability.world import worlds

HALF = "\ud83d"
"""Half a character, which models do write; its reader gets U+FFFD."""
WORDS = ("Once ", "upon \ufffd ", "a time.")
STORY = "".join(WORDS)


class ReplyWriter(ScriptedSession):
    """Writes a word whenever the test opens its gate; a reply that may not be complete yet is cut."""

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        assert publish is not None
        world = worlds[request.idempotency_key.partition("/")[0]]
        for word in WORDS:
            await world.gate(word).wait()
            publish(word.replace("\ufffd", HALF))
        await world.gate(f"end of {request.attempt}").wait()
        if not world.gate("whole").is_set():
            raise ModelUnreachable("cut before the reply was whole")
        return await super().reply(request, resources)


@workflow.define(name="contract.writer")
class WritesAStory:
    """Runs an agent whose model takes its time."""

    @workflow.entrypoint
    async def run(self) -> str:
        session = ReplyWriter({"writer": [say(STORY)]}, stream=True)
        return (await Runner.run(Agent(model="m", name="writer"), "Write.", session)).text


async def up_to(events: AsyncIterator[Event], text: str) -> list[Event]:
    """Return the next pieces of text, until together they are `text`."""
    found: list[Event] = []
    async for event in events:
        if event.kind == EventKind.TEXT_DELTA:
            found.append(event)
        if text_in(found) == text:
            return found
    raise AssertionError(f"the stream ended with {text_in(found)!r}")


def text_in(events: Sequence[Event]) -> str:
    return "".join(piece.text for piece in data_of(events, TextDeltaData))


def numbers_in(events: Sequence[Event]) -> list[int]:
    return [piece.sequence for piece in data_of(events, TextDeltaData)]


def attempts_in(events: Sequence[Event]) -> set[int]:
    return {piece.attempt for piece in data_of(events, TextDeltaData)}


class TextContract(DurabilityContractBase):
    """D13, for what is not in the journal yet."""

    async def test_d13_text_is_published_while_it_is_written_and_again_to_later_readers(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(WritesAStory)
        await stage.worker(WritesAStory)
        reading = execution.events()
        world.gate("Once ").set()
        begun = await stage.soon(up_to(reading, "Once "))
        assert {piece.agent for piece in data_of(begun, TextDeltaData)} == {"writer"}
        world.gate("upon \ufffd ").set()
        world.gate("a time.").set()
        rest = await stage.soon(up_to(reading, "upon \ufffd a time."))
        assert numbers_in([*begun, *rest]) == list(range(1, len(begun) + len(rest) + 1))
        # A reader that goes on elsewhere gets the unfinished reply from its beginning, with the same numbers.
        elsewhere = (await stage.again(execution)).events(begun[-1].position)
        again = await stage.soon(up_to(elsewhere, STORY))
        assert numbers_in(again) == numbers_in([*begun, *rest])
        world.gate("whole").set()
        world.gate("end of 1").set()
        assert await stage.soon(execution.result()) == STORY

    async def test_d13_the_text_of_a_new_attempt_takes_the_place_of_the_old_and_the_reply_that_of_all(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(WritesAStory)
        await stage.worker(WritesAStory)
        reading = execution.events()
        for word in WORDS:
            world.gate(word).set()
        first = await stage.soon(up_to(reading, STORY))
        world.gate("end of 1").set()
        second = await stage.later(up_to(reading, STORY), 2)
        assert [attempts_in(events) for events in (first, second)] == [{1}, {2}]
        assert numbers_in(second) == list(range(1, len(second) + 1))
        late = await stage.soon(up_to((await stage.again(execution)).events(), STORY))
        assert attempts_in(late) == {2}
        world.gate("whole").set()
        world.gate("end of 2").set()
        assert await stage.soon(execution.result()) == STORY
        ending = [EventKind.MODEL_REPLIED, EventKind.EXECUTION_COMPLETED]
        # Text is published beside the journal: that of an attempt may overtake the end of the one before.
        assert [
            kind for kind in await stage.soon(_kinds(reading)) if kind != EventKind.ATTEMPT_FAILED
        ] == ending
        # Late text comes in its place, if at all, and disturbs nothing else.
        events = await stage.soon(all_events(execution))
        assert text_in(events) in ("", STORY)
        lasting = [
            event.kind
            for event in events
            if event.kind not in (EventKind.TEXT_DELTA, EventKind.ATTEMPT_FAILED)
        ]
        assert lasting == [EventKind.EXECUTION_STARTED, EventKind.TURN_STARTED, *ending]


async def _kinds(events: AsyncIterator[Event]) -> list[str]:
    return [event.kind async for event in events]
