"""The comparison: the same work by this library, by bare drivers, and by its peers, in the same run.

Each subject is a process of its own that takes numbers of turns and answers with seconds; see
`peers/serving.py`. All are asked in turn, round by round, so that what else goes on on the machine meets all
of them. A peer has an environment of its own, made from the lock file in its folder; one that cannot be
installed, or does not start, says so in the table, and the run goes on.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure

HERE = Path(__file__).parent
PEERS = HERE / "peers"
UV = HERE.parent / ".tools" / "bin" / "uv"

START_SECONDS = 150.0
"""The time that a subject may take until it is ready."""
RUN_SECONDS = 120.0


class Unable(Exception):
    """A subject cannot be measured here; the text says why."""


@dataclass(slots=True)
class Subject:
    """One row of the comparison."""

    name: str
    kind: str
    folder: str
    """Under `peers`."""
    arguments: tuple[str, ...]
    floor: str | None = None
    process: asyncio.subprocess.Process | None = None
    note: str = ""
    samples: dict[int, list[float]] = field(default_factory=dict)
    """By turns, the milliseconds per turn."""

    @property
    def has_lock_file(self) -> bool:
        return (PEERS / self.folder / "requirements.txt").exists()

    async def start(self, log: Path) -> None:
        """Begin the process, after its environment was made; raises `Unable`."""
        python = await installed(PEERS / self.folder) if self.has_lock_file else Path(sys.executable)
        with log.open("wb") as errors:
            self.process = await asyncio.create_subprocess_exec(
                *(str(python), str(PEERS / self.folder / "subject.py"), *self.arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": str(PEERS)},
            )
        ready = await self._answer(START_SECONDS, log)
        self.note = ", ".join(f"{name} {version}" for name, version in ready["versions"].items())

    async def measure(self, turns: int, log: Path) -> float:
        """Return the milliseconds per turn of one run; raises `Unable`."""
        assert self.process is not None
        assert self.process.stdin is not None
        with suppress(ConnectionError):
            self.process.stdin.write(json.dumps({"turns": turns}).encode() + b"\n")
            await self.process.stdin.drain()
        seconds: float = (await self._answer(RUN_SECONDS, log))["seconds"]
        return seconds * 1e3 / turns

    async def _answer(self, seconds: float, log: Path) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                line = await self.process.stdout.readline()
        except TimeoutError as error:
            raise Unable(f"gave no answer in {seconds:g} s") from error
        if not line:
            await self.process.wait()
            raise Unable(_last_line(log) or f"ended with status {self.process.returncode}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def stop(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:160] if lines else ""


async def installed(folder: Path) -> Path:
    """Return the Python of a peer's environment, which is made from its lock file; raises `Unable`."""
    environment = folder / ".venv"
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    commands: list[tuple[str, ...]] = [
        (str(UV), "pip", "sync", "--quiet", "--python", str(python), str(folder / "requirements.txt")),
    ]
    if not python.exists():
        commands.insert(0, (str(UV), "venv", "--quiet", "--python", sys.executable, str(environment)))
    for command in commands:
        try:
            process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
        except OSError as error:
            raise Unable(f"could not be installed: {error}") from error
        _, errors = await process.communicate()
        if process.returncode:
            told = errors.decode(errors="replace").strip().splitlines()
            raise Unable(f"could not be installed: {told[-1][:120] if told else 'uv failed'}")
    return python


def subjects(folder: Path, redis_url: str | None, temporal: str | None) -> list[Subject]:
    """Return all subjects that the servers at hand allow; the order is that of the table."""
    place = str(folder)
    sqlite_floor, redis_floor, temporal_floor = (
        "two commits, sqlite3",
        "two XADD, redis-py",
        "two activities, temporalio",
    )
    found = [
        Subject("Outlast, memory", "ours", "outlast", ("memory:",)),
        Subject(sqlite_floor, "floor", "floors", ("sqlite", place)),
        Subject("Outlast, SQLite", "ours", "outlast", (f"sqlite:///{place}/ours.db",), sqlite_floor),
        Subject("Pydantic AI + DBOS, SQLite", "peer", "pydantic-dbos", (place,), sqlite_floor),
        Subject("LangGraph, SQLite", "peer", "langgraph-sqlite", (place,), sqlite_floor),
    ]
    if redis_url is not None:
        found += [
            Subject(redis_floor, "floor", "floors", ("redis", redis_url)),
            Subject("Outlast, Redis", "ours", "outlast", (redis_url,), redis_floor),
            Subject("LangGraph, Redis", "peer", "langgraph-redis", (redis_url,), redis_floor),
        ]
    if temporal is not None:
        found += [
            Subject(temporal_floor, "floor", "floors", ("temporal", temporal)),
            Subject(
                "Outlast, Temporal", "ours", "outlast", (f"temporal://{temporal}/default",), temporal_floor
            ),
            Subject("Pydantic AI + Temporal", "peer", "pydantic-temporal", (temporal,), temporal_floor),
            Subject("OpenAI Agents + Temporal", "peer", "openai-temporal", (temporal,), temporal_floor),
        ]
    return found


async def compare(found: Sequence[Subject], folder: Path, turns: Sequence[int], rounds: int) -> list[Figure]:
    """Ask all subjects in turn, and return their figures."""
    able: list[Subject] = []
    logs = {subject.name: folder / f"log-{number}.txt" for number, subject in enumerate(found)}
    async with _ended(found):
        for subject in found:
            try:
                await subject.start(logs[subject.name])
                await subject.measure(
                    3, logs[subject.name]
                )  # What is loaded at the first run does not count.
                able.append(subject)
            except Unable as error:
                subject.note = str(error)
        for number in turns:
            for _ in range(rounds):
                for subject in list(able):
                    try:
                        taken = await subject.measure(number, logs[subject.name])
                    except Unable as error:
                        subject.note = str(error)
                        able.remove(subject)
                    else:
                        subject.samples.setdefault(number, []).append(taken)
    return [
        Figure(
            f"One turn, in runs of {number}",
            subject.name,
            "ms",
            tuple(subject.samples.get(number, ())),
            subject.kind,
            subject.note,
            subject.floor,
        )
        for number in turns
        for subject in found
    ]


@asynccontextmanager
async def _ended(found: Sequence[Subject]) -> AsyncIterator[None]:
    """Stop all subjects when the block ends."""
    try:
        yield
    finally:
        for subject in found:
            await subject.stop()
