"""The course of the demonstration: two workers, the first of which is killed half-way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.status import Status
from rich.text import Text

from outlast.cli.demo.cloud import Cloud, Mistral
from outlast.cli.demo.deal import DealAnalysis
from outlast.cli.demo.effects import EFFECTS_VARIABLE, effects_in
from outlast.cli.demo.proof import Proof
from outlast.cli.demo.workers import WorkerProcess
from outlast.cli.rendering.event_lines import agent_and_event
from outlast.composition.backends import connect
from outlast.core.errors import MissingExtra, OutlastError
from outlast.core.event_stream import Event
from outlast.core.events import EventKind

REQUEST = "Analyse the acquisition of Northwind, a French company, for 2.5 million euros."
LEASE_SECONDS = 3.0
TOOLS_BEFORE_THE_KILL = 3
"""The tools (of six) that run before the kill. It comes in the next model call, when no tool is under way."""

PATIENCE_SECONDS = 300.0


@dataclass(eq=False)
class DemoFailed(OutlastError):
    """The demonstration could not go on."""

    problem: str

    def wording(self) -> str:
        return self.problem


async def perform(directory: Path | None, console: Console) -> bool:
    """Run the demonstration, and return whether its proof holds. No process is left behind.

    Raises:
        MissingExtra: the demonstration needs a package that is not installed.
        DemoFailed: a worker ended by itself, or the demonstration took too long.
    """
    with contextlib.ExitStack() as stack:
        cloud = stack.enter_context(_find_cloud())
        folder = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outlast-")))
        folder.mkdir(parents=True, exist_ok=True)
        play = _Play(cloud, folder.resolve(), console)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                holds = await play.run()
        except TimeoutError as error:
            raise DemoFailed(f"the demonstration did not end within {PATIENCE_SECONDS:g} s") from error
        if directory is not None:
            console.print(f"To look at it: outlast show {play.id} --backend {play.url}")
        return holds


@contextlib.contextmanager
def _find_cloud() -> Iterator[Cloud]:
    """Yield Mistral's API if there is a key for it, else a stand-in that serves during the block.

    Raises:
        MissingExtra: the stand-in's server is not installed.
    """
    if os.environ.get("MISTRAL_API_KEY", "").strip():
        yield Mistral()
        return
    try:
        from outlast.cli.demo.stand_in import stand_in
    except MissingExtra as error:
        raise MissingExtra("cli,mistral,web") from error
    with stand_in() as cloud:
        yield cloud


@dataclass(slots=True, eq=False)
class _Play:
    cloud: Cloud
    folder: Path
    console: Console
    id: str = field(default_factory=lambda: f"deal-{uuid.uuid4().hex[:6]}")
    workers: list[WorkerProcess] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'demo.db'}"

    @property
    def effects(self) -> Path:
        return self.folder / f"{self.id}.effects"

    async def run(self) -> bool:
        self.console.print(f"Model    {self.cloud.description}")
        self.console.print(f"Journal  {self.url}")
        self.console.print(f"Request  {REQUEST}\n")
        async with connect(self.url) as backend:
            execution = await backend.start(DealAnalysis, REQUEST, id=self.id)
            waiting = self.console.status(f"waiting for the lease to run out ({LEASE_SECONDS:g} s)")
            try:
                await self._start_worker()
                async with contextlib.aclosing(self._alive(execution.events())) as events:
                    async for event in events:
                        await self._take(event, waiting)
                result = await execution.result()
            finally:
                waiting.stop()
                self.cloud.go_on()
                for worker in self.workers:
                    await worker.stop()
        return self._prove(result)

    async def _take(self, event: Event, waiting: Status) -> None:
        """Show an event; half-way, kill the worker and start another."""
        self.events.append(event)
        kinds = [event.kind for event in self.events]
        if event.kind is EventKind.EXECUTION_RECOVERED:
            waiting.stop()
        who = self.workers[0] if EventKind.EXECUTION_RECOVERED not in kinds else self.workers[-1]
        begins = event.kind is EventKind.EXECUTION_STARTED
        self._say("" if begins else who.name, agent_and_event(event))
        is_half_way = kinds.count(EventKind.TOOL_RETURNED) >= TOOLS_BEFORE_THE_KILL
        if is_half_way and event.kind is EventKind.TURN_STARTED and len(self.workers) == 1:
            await self.cloud.in_the_middle()
            ended_by = signal.Signals(await self.workers[0].kill())
            text = f"process {self.workers[0].id} killed ({ended_by.name}) before the model's answer arrived"
            self._say(self.workers[0].name, Text(text, style="bold red"))
            self.cloud.go_on()
            await self._start_worker()
            if self.console.is_terminal:
                waiting.start()

    async def _start_worker(self) -> None:
        name = f"worker {len(self.workers) + 1}"
        worker = await WorkerProcess.start(
            name,
            self.folder / f"{self.id}.{name.replace(' ', '-')}.log",
            *("outlast.cli.demo.deal", "--backend", self.url, "--lease", str(LEASE_SECONDS)),
            environment={**self.cloud.environment, EFFECTS_VARIABLE: str(self.effects)},
        )
        self.workers.append(worker)
        self._say(name, Text(f"process {worker.id} started", style="bold"))

    async def _alive(self, events: AsyncIterator[Event]) -> AsyncGenerator[Event, None]:
        """Yield events as long as the newest worker lives."""
        while True:
            newest = self.workers[-1]
            coming = asyncio.ensure_future(anext(events, None))
            try:
                await asyncio.wait({coming, newest.ended}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    raise DemoFailed(f"{newest.name} ended by itself; its last words:\n{newest.last_words()}")
            finally:
                coming.cancel()
                await asyncio.wait({coming})
            event = coming.result()
            if event is None:
                return
            yield event

    def _say(self, who: str, what: Text) -> None:
        line = Text(f"{time.monotonic() - self.began:6.2f} s  ", style="dim")
        line.append(f"{who:<9} ", style="cyan" if who == self.workers[0].name else "green")
        self.console.print(line.append_text(what))

    def _prove(self, result: str) -> bool:
        processes = {worker.id: worker.name for worker in self.workers}
        effects = effects_in(self.effects)
        proof = Proof.of(self.id, self.events, effects, processes, self.cloud.questions)
        self.console.print(f"\n{result}\n")
        self.console.print(proof.table())
        self.console.print()
        for problem in proof.problems:
            self.console.print(f"NOT PROVEN: {problem}", style="bold red")
        if not proof.problems:
            for line in proof.conclusions:
                self.console.print(line, style="bold green")
        return not proof.problems
