"""Text in the event stream: it shows while it is written, goes on after a reconnect, and harms nobody."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import outlast
from outlast import Agent, LocalSession, RemoteSession, Runner, ScriptedSession, connect, workflow
from outlast.adapters.memory.deltas import MemoryDeltas
from outlast.adapters.memory.store import Medium, MemoryStore
from outlast.adapters.scripted import call, fail, say
from outlast.core.agents import AgentGraph
from outlast.core.entries import MessageOutput
from outlast.core.errors import (
    DefinitionError,
    ExecutionFailed,
    ModelRefused,
    ModelUnreachable,
    StorageUnavailable,
)
from outlast.core.event_stream import Delta, Event
from outlast.core.events import ModelRepliedData, TextDeltaData
from outlast.ports.deltas import Publish
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution
from outlast.ports.llm import ModelReply, ModelRequest, Session
from outlast.ports.resources import Resources
from outlast.runtime.attempts.text_publisher import Publisher
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.testing.contracts.durability.stage import data_of
from outlast.testing.mistral_server import MistralServer, Say
from outlast.testing.virtual_clock import VirtualClock
from tests.adapters.redis_servers import VALKEY, shared_url

PATIENCE_SECONDS = 20.0


@dataclass
class Writer(Session):
    """A session whose text comes when the test gives it; None ends the attempt whole, an error ends it."""

    raise_on_tool_fail: bool = False
    stream: bool = True
    pieces: asyncio.Queue[str | Exception | None] = field(default_factory=asyncio.Queue)
    attempts: int = 0

    def check(self, graph: AgentGraph) -> None:
        """It serves any agents."""

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        self.attempts += 1
        text = ""
        while (piece := await self.pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            text += piece
            if publish is not None:
                publish(piece)
        return ModelReply(entries=(say(text),))

    def write(self, *pieces: str | Exception | None) -> None:
        for piece in pieces:
            self.pieces.put_nowait(piece)


writer = Writer()


@workflow.define(name="text_writing")
class Writing:
    @workflow.entrypoint
    async def run(self) -> str:
        return (await Runner.run(Agent(model="m", name="poet"), "Write.", session=writer)).text


@pytest.fixture
def fresh_writer() -> Writer:
    global writer
    writer = Writer()
    return writer


@pytest.fixture(params=["memory:", "sqlite", pytest.param("redis", marks=pytest.mark.server)])
async def backends(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Backend, Backend]]:
    """Two backends on one place: that of a worker, and that of somebody who only watches."""
    async with AsyncExitStack() as stack:
        if request.param == "memory:":
            both = await stack.enter_async_context(connect("memory:"))
            yield both, both
        else:
            url = f"sqlite:///{tmp_path}/runs.db?synchronous=off"
            if request.param == "redis":
                server = shared_url(VALKEY)
                url = f"{server}{'&' if '?' in server else '?'}prefix={uuid.uuid4().hex}"
            yield (
                await stack.enter_async_context(connect(url)),
                await stack.enter_async_context(connect(url)),
            )


class Reader:
    """Somebody who reads an event stream, one event after another."""

    def __init__(self, execution: Execution, after: int = 0) -> None:
        self._events = execution.events(after)

    async def next(self, kind: str) -> Event:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for event in self._events:
                if event.kind == kind:
                    return event
        raise AssertionError(f"the stream ended without {kind}")

    async def text(self, length: int) -> list[Event]:
        """Return the next pieces of text that together are so long."""
        found: list[Event] = []
        while len(joined(found)) < length:
            found.append(await self.next("text_delta"))
        return found


def pieces(events: Sequence[Event]) -> list[TextDeltaData]:
    return data_of(events, TextDeltaData)


def joined(events: Sequence[Event]) -> str:
    return "".join(piece.text for piece in pieces(events))


async def test_text_shows_in_every_process_while_it_is_written(
    backends: tuple[Backend, Backend], fresh_writer: Writer
) -> None:
    working, watching = backends
    execution = await working.start(Writing)
    reader = Reader(await watching.get(execution.id))
    async with working.worker([Writing]):
        events = []
        for piece in ("Rain, ", "rain."):
            fresh_writer.write(piece)
            events += await reader.text(len(piece))
            last = pieces(events)[-1]
            assert (last.text, last.agent, last.turn, last.attempt) == (piece, "poet", 1, 1)
        assert [one.sequence for one in pieces(events)] == [1, 2]
        fresh_writer.write(None)
        [replied] = data_of([await reader.next("model_replied")], ModelRepliedData)
        assert replied.entries == (MessageOutput(content="Rain, rain."),)
        assert replied.text == "Rain, rain."
        assert replied.key == pieces(events)[0].key
        assert await execution.result() == "Rain, rain."


async def test_a_reader_that_comes_back_goes_on_at_its_place_in_the_text(
    backends: tuple[Backend, Backend], fresh_writer: Writer
) -> None:
    working, watching = backends
    execution = await working.start(Writing)
    async with working.worker([Writing]):
        fresh_writer.write("Rain, ")
        (seen,) = await Reader(await watching.get(execution.id)).text(6)
        fresh_writer.write("rain.")
        again = Reader(await watching.get(execution.id), after=seen.position)
        events = await again.text(11)
        assert joined(events) == "Rain, rain."
        assert [one.sequence for one in pieces(events)] == [1, 2]
        assert events[0].data == seen.data
        fresh_writer.write(None)
        await again.next("model_replied")


async def test_the_stream_without_its_text_is_that_of_the_journal(
    backends: tuple[Backend, Backend], fresh_writer: Writer
) -> None:
    working, watching = backends
    execution = await working.start(Writing)
    watched = await watching.get(execution.id)
    async with working.worker([Writing]):
        fresh_writer.write("Rain", ".", None)
        events = [event async for event in watched.events()]
    kept = [event async for event in watched.events(follow=False)]
    assert [event for event in events if event.kind != "text_delta"] == kept
    positions = [event.position for event in events]
    assert positions == sorted(positions)


async def test_a_new_attempt_retracts_the_text_of_the_old_one(fresh_writer: Writer) -> None:
    clock = VirtualClock()
    async with JournaledBackend(MemoryStore(clock), clock, MemoryDeltas(clock)) as backend:
        execution = await backend.start(Writing)
        reader = Reader(execution)
        async with backend.worker([Writing]):
            fresh_writer.write("It sn", ModelUnreachable("cut"))
            first = await reader.text(5)
            await reader.next("attempt_failed")
            fresh_writer.write("It rains.")
            while fresh_writer.attempts < 2:
                await clock.advance(1.0)
            second = await reader.text(9)
            assert [(one.attempt, one.sequence) for one in pieces([*first, *second])] == [(1, 1), (2, 1)]
            assert joined(await Reader(execution).text(9)) == "It rains."
            fresh_writer.write(None)
            assert await execution.result() == "It rains."


async def test_text_of_a_worker_that_lost_its_lease_is_not_shown_any_more() -> None:
    """It still writes attempt 1 when attempt 2 is under way elsewhere."""
    clock, medium = VirtualClock(), Medium()
    deltas = MemoryDeltas(clock)
    async with JournaledBackend(MemoryStore(clock, medium=medium), clock, deltas) as backend:
        global writer
        writer = Writer()
        execution = await backend.start(Writing)
        reader = Reader(execution)
        async with backend.worker([Writing]):
            writer.write("new")
            [written] = pieces(await reader.text(3))
            await deltas.publish(execution.id, Delta(written.key, 0, 1, "stale", clock.now()))
            writer.write("er")
            assert joined(await reader.text(2)) == "er"
            writer.write(None)
            await execution.result()


class Broken(MemoryDeltas):
    """Text that cannot be stored, nor read."""

    async def publish(self, execution_id: str, delta: Delta) -> None:
        raise StorageUnavailable("no")

    async def read(self, execution_id: str, after: str) -> Any:
        raise StorageUnavailable("no")


async def test_text_that_cannot_be_published_harms_neither_the_run_nor_its_events(
    fresh_writer: Writer,
) -> None:
    clock = VirtualClock()
    async with JournaledBackend(MemoryStore(clock), clock, Broken(clock)) as backend:
        execution = await backend.start(Writing)
        fresh_writer.write("a", "b", None)
        async with backend.worker([Writing], lease=timedelta(seconds=10)):
            kinds = [event.kind async for event in execution.events()]
        assert await execution.result() == "ab"
        assert kinds == ["execution_started", "turn_started", "model_replied", "execution_completed"]


async def test_text_is_read_again_when_its_place_is_there_again(fresh_writer: Writer) -> None:
    clock = VirtualClock()

    class Restarting(MemoryDeltas):
        is_down = False

        async def read(self, execution_id: str, after: str) -> Any:
            if self.is_down:
                raise StorageUnavailable("restarting")
            return await super().read(execution_id, after)

        async def follow(self, execution_id: str, after: str, timeout_seconds: float) -> None:
            if self.is_down:
                raise StorageUnavailable("restarting")
            await super().follow(execution_id, after, timeout_seconds)

    deltas = Restarting(clock)
    async with JournaledBackend(MemoryStore(clock), clock, deltas) as backend:
        execution = await backend.start(Writing)
        reader = Reader(execution)
        async with backend.worker([Writing]):
            fresh_writer.write("a")
            await reader.text(1)
            deltas.is_down = True
            fresh_writer.write("b")
            reading = asyncio.create_task(reader.text(1))
            await clock.advance(6.0)
            assert not reading.done()
            deltas.is_down = False
            await clock.advance(6.0)
            assert joined(await reading) == "b"
            fresh_writer.write(None)
            assert await execution.result() == "ab"


async def test_a_slow_place_gets_few_long_pieces_and_all_of_the_text() -> None:
    clock = VirtualClock()
    is_free = asyncio.Event()

    class Slow(MemoryDeltas):
        async def publish(self, execution_id: str, delta: Delta) -> None:
            await super().publish(execution_id, delta)
            await is_free.wait()

    deltas = Slow(clock)
    async with Publisher(deltas, clock, "x", "k", 3) as publisher:
        for letter in "abcdef":
            publisher.publish(letter)
            await asyncio.sleep(0)
        is_free.set()
    found, _ = await deltas.read("x", "")
    assert [(delta.attempt, delta.sequence, delta.text) for delta in found] == [(3, 1, "a"), (3, 2, "bcdef")]


# Through the sessions -------------------------------------------------------------------------------------

session: Session


@workflow.define(name="text_published")
class Streamed:
    @workflow.entrypoint
    async def run(self) -> str:
        return (await Runner.run(Agent(model="m", name="poet"), "Write.", session=session)).text


@pytest.mark.server
@pytest.mark.parametrize("make", [RemoteSession, LocalSession, None], ids=["remote", "local", "scripted"])
async def test_the_text_of_every_session_is_published_as_it_is_written(make: Any) -> None:
    global session
    poem = "Rain, rain,\n go to Spain."
    with MistralServer(lambda _: [Say(poem)]) as server:
        if make is None:
            session = ScriptedSession({"poet": [poem]}, stream=True)
        else:
            session = make(api_key=server.api_key, server_url=server.url, stream=True)
        async with connect("memory:") as backend:
            execution = await backend.start(Streamed)
            reader = Reader(execution)
            async with backend.worker([Streamed]):
                assert joined(await reader.text(len(poem))) == poem
                assert await execution.result() == poem


# In a plain script ----------------------------------------------------------------------------------------


async def ask_the_sky(city: str) -> str:
    """Return the weather.

    Args:
        city: Where
    """
    return f"rain in {city}"


async def test_a_run_in_a_plain_script_can_be_watched() -> None:
    session = ScriptedSession({"poet": [[call("ask_the_sky", {"city": "Lyon"})], "Rain, rain."]})
    poet = Agent(model="m", name="poet", tools=[ask_the_sky])
    run = Runner.run_streamed(poet, "Write.", session)
    events = [event async for event in run.events()]
    assert joined(events) == "Rain, rain."
    assert [(one.turn, one.sequence) for one in pieces(events)] == [(2, 1), (2, 2)]
    result = await run.result()
    assert result.text == "Rain, rain."
    assert [event async for event in run.events()] == events
    # A session used again goes on with its conversation.
    with pytest.raises(outlast.ActivityFailed, match="2 replies"):
        await Runner.run(poet, "More.", session)


async def test_a_watched_run_has_the_events_of_a_durable_one() -> None:
    """But for how the text is cut into pieces, which is a matter of speed."""
    poet = Agent(model="m", name="poet", tools=[ask_the_sky])

    def fresh() -> ScriptedSession:
        return ScriptedSession(
            {"poet": [[call("ask_the_sky", {"city": "Lyon"})], "Rain, rain."]}, stream=True
        )

    def comparable(events: Sequence[Event]) -> list[Any]:
        ours = [event for event in events if not event.kind.startswith("execution_")]
        return [
            joined(ours),
            *(
                (
                    event.kind,
                    {
                        name: value
                        for name, value in event.data.to_data().items()
                        if name not in ("key", "run")
                    },
                )
                for event in ours
                if event.kind != "text_delta"
            ),
        ]

    watched = [event async for event in Runner.run_streamed(poet, "Write.", fresh()).events()]
    async with connect("memory:") as backend:
        await Runner.run(poet, "Write.", fresh(), id="durable", backend=backend)
        durable = [event async for event in (await backend.get("durable")).events()]
    assert comparable(watched) == comparable(durable)


async def test_a_watched_run_that_fails_says_so_in_its_result_alone() -> None:
    run = Runner.run_streamed(Agent(model="m", name="poet"), "Write.", ScriptedSession({"poet": [fail(404)]}))
    kinds = [event.kind async for event in run.events()]
    assert kinds == ["turn_started", "model_failed"]
    with pytest.raises(ModelRefused):
        await run.result()


async def test_a_watched_run_ends_with_its_block(fresh_writer: Writer) -> None:
    async with Runner.run_streamed(Agent(model="m", name="poet"), "Write.", fresh_writer) as run:
        fresh_writer.write("Rain")
        async for event in run.events():
            if event.kind == "text_delta":
                break
    with pytest.raises(asyncio.CancelledError):
        await run.result()


async def test_a_streamed_run_that_cannot_run_is_refused_at_once() -> None:
    poet, session = Agent(model="m", name="poet"), ScriptedSession({"poet": [fail(404)]})
    for durably in ({}, {"id": "refused", "backend": "memory:"}):
        with pytest.raises(DefinitionError, match="empty"):
            Runner.run_streamed(poet, "", session, **durably)  # type: ignore[arg-type]  # both are texts
    with pytest.raises(DefinitionError, match="needs an id"):
        Runner.run_streamed(poet, "Write.", session, backend="memory:")


async def test_a_durable_run_is_watched_and_after_a_reconnect_goes_on_where_it_was(
    backends: tuple[Backend, Backend],
) -> None:
    poet, silent = Agent(model="m", name="poet"), Writer(stream=False)
    async with Runner.run_streamed(poet, "Write.", silent, id="w-1", backend=backends[0]) as run:
        silent.write("Rain")
        seen = await anext(event async for event in run.events() if event.kind == "text_delta")
    assert [(one.text, one.attempt) for one in pieces([seen])] == [("Rain", 1)]
    # This process has left the run. Another one goes on with it, and its watcher gets every event again.
    again = Writer(stream=False)
    run = Runner.run_streamed(poet, "Write.", again, id="w-1", backend=backends[1])
    again.write("Rain", ", rain.", None)
    events = [event async for event in run.events()]
    result = await run.result()
    assert "".join(one.text for one in pieces(events) if one.attempt == 2) == "Rain, rain."
    assert result.text == "Rain, rain."
    assert [event.kind for event in events if event.kind != "text_delta"][:2] == [
        "execution_started",
        "turn_started",
    ]
    assert events[-1].kind == "execution_completed"
    # A watcher that knows the beginning gets the rest; a watcher of the run that has ended gets all of it.
    rest = [event async for event in run.events(after=seen.position)]
    assert [event for event in events if event.position > seen.position] == [
        event for event in rest if event.position > seen.position
    ]
    once_more = Runner.run_streamed(poet, "Write.", again, id="w-1", backend=backends[0])
    assert (await once_more.result()).text == "Rain, rain."
    replayed = [event async for event in once_more.events() if event.kind != "text_delta"]
    assert replayed == [event for event in events if event.kind != "text_delta"]


async def test_a_durable_run_that_fails_is_watched_to_its_end() -> None:
    poet = Agent(model="m", name="poet")
    run = Runner.run_streamed(
        poet, "Write.", ScriptedSession({"poet": [fail(404)]}), id="f-1", backend="memory:"
    )
    kinds = [event.kind async for event in run.events()]
    assert kinds[-2:] == ["model_failed", "execution_failed"]
    with pytest.raises(ModelRefused):
        await run.result()


@workflow.define(name="text_watched_inside")
class WatchedInside:
    @workflow.entrypoint
    async def run(self) -> None:
        Runner.run_streamed(Agent(model="m", name="poet"), "Write.", ScriptedSession({"poet": [fail(404)]}))


async def test_the_error_in_a_workflow_says_how_to_watch_its_runs() -> None:
    async with connect("memory:") as backend:
        execution = await backend.start(WatchedInside)
        async with backend.worker([WatchedInside]):
            with pytest.raises(ExecutionFailed, match="stream=True"):
                await execution.result()
