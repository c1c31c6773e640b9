"""`outlast worker` as a supervisor: its children are ended, hang, are suspended and are asked to stop."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

import outlast
from outlast.cli import supervisor
from outlast.cli.last_words import (
    WORDS_MAX,
    forget_old,
    last_words_of,
    marks_beside,
    say_last,
    stacks_in,
)
from outlast.cli.supervisor import ProcessSupervisor, Terms, memory_kills
from outlast.core.events import EventKind
from outlast.core.records import Part
from outlast.ports.durability.execution import ExecutionDescription
from outlast.runtime.isolation.at_work import part_in
from outlast.testing.contracts.crash.effects import PATIENCE_SECONDS
from tests.children import Child
from tests.crash.misbehaving import Behaving, Misbehaving, Taking

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot pass sockets on to a child"),
]

LEASE_SECONDS = 1.0
RUNS = re.compile(r"^worker (\d+) runs", re.MULTILINE)


class Command:
    """`outlast worker` as a process."""

    def __init__(self, directory: Path, processes: int, *options: str) -> None:
        self.url = f"sqlite:///{directory / 'runs.db'}"
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self.process = Child(
                [
                    *(sys.executable, "-m", "outlast.cli", "worker", "tests.crash.misbehaving"),
                    *("--backend", self.url, "--lease", str(LEASE_SECONDS), "--processes", str(processes)),
                    *options,
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def begun(self) -> list[int]:
        """The children that have ever begun to work."""
        return [int(number) for number in RUNS.findall(self.log)]

    async def until_begun(self, number: int) -> list[int]:
        await until(lambda: len(self.begun) >= number)
        return self.begun

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await asyncio.to_thread(self.process.wait)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.02)


def is_alive(number: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(number, 0)
        return True
    return False


@pytest.fixture
async def commands(tmp_path: Path) -> AsyncIterator[Callable[[int], Command]]:
    begun: list[Command] = []

    def begin(processes: int) -> Command:
        begun.append(Command(tmp_path, processes))
        return begun[-1]

    yield begin
    for command in begun:
        command.process.terminate()
        assert await command.ended() in (0, 1, -signal.SIGKILL)
        await until(lambda command=command: not any(map(is_alive, command.begun)))  # type: ignore[misc]


Commands = Callable[[int], Command]


async def held(execution: outlast.Execution) -> ExecutionDescription:
    """Return the description of the execution once it is held."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for event in execution.events():
            if event.kind == EventKind.EXECUTION_HELD:
                break
    described = await execution.describe()
    assert described.held
    return described


@pytest.mark.parametrize(
    ("how", "parts"),
    [
        ("segmentation fault", ("SIGSEGV", "misbehaving.py", "in misbehave")),
        ("exit", ("exit code 3",)),
        ("regular expression", ("gave no sign of life", "misbehaving.py", "in misbehave")),
    ],
)
async def test_d19_an_execution_that_ends_or_hangs_its_process_is_held_with_the_last_words(
    how: str, parts: tuple[str, ...], commands: Commands
) -> None:
    command = commands(2)
    await command.until_begun(2)
    async with outlast.connect(command.url) as backend:
        bad = await backend.start(Misbehaving, how, id="bad")
        holding = asyncio.create_task(held(bad))
        while not holding.done():
            async with asyncio.timeout(PATIENCE_SECONDS):
                await (await backend.start(Behaving)).result()
            await asyncio.wait([holding], timeout=0.2)
        described = await holding
        assert described.error is not None
        for said in (*parts, "misbehave", "outlast resume bad"):
            assert said in described.error
        async with asyncio.timeout(PATIENCE_SECONDS):
            await (await backend.start(Behaving)).result()


async def test_a_child_that_is_killed_is_replaced(commands: Commands) -> None:
    command = commands(2)
    first, other = await command.until_begun(2)
    os.kill(first, signal.SIGKILL)
    _, _, third = await command.until_begun(3)
    os.kill(other, signal.SIGKILL)
    assert f"worker process {first} was ended by SIGKILL" in command.log
    async with outlast.connect(command.url) as backend, asyncio.timeout(PATIENCE_SECONDS):
        execution = await backend.start(Behaving)
        assert await execution.result() in (third, (await command.until_begun(4))[-1])


async def test_a_child_that_somebody_suspends_is_not_taken_for_one_that_hangs(commands: Commands) -> None:
    command = commands(2)
    first, _ = await command.until_begun(2)
    os.kill(first, signal.SIGSTOP)
    async with outlast.connect(command.url) as backend:
        # Longer than the silence for which a child is given up, by the clock of the other child.
        async with asyncio.timeout(PATIENCE_SECONDS):
            execution = await backend.start(Taking, 4 * LEASE_SECONDS)
            assert await execution.result() == "taken"
        os.kill(first, signal.SIGCONT)
        async with asyncio.timeout(PATIENCE_SECONDS):
            execution = await backend.start(Taking, 3 * LEASE_SECONDS)
            assert await execution.result() == "taken"
    assert len(command.begun) == 2
    assert "no sign of life" not in command.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_supervisor_that_is_asked_to_stop_lets_its_children_finish(
    number: signal.Signals, commands: Commands
) -> None:
    command = commands(2)
    await command.until_begun(2)
    async with outlast.connect(command.url) as backend:
        execution = await backend.start(Taking, 1.0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await anext(event async for event in execution.events() if event.kind == "activity_started")
        command.process.send_signal(number)
        assert await command.ended() == 0
        assert not any(map(is_alive, command.begun))
        kinds = [event.kind async for event in execution.events(follow=False)]
        assert "activity_completed" in kinds
    assert "ERROR" not in command.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_the_whole_group_lets_the_children_finish_too(
    number: signal.Signals, commands: Commands
) -> None:
    command = commands(2)
    children = await command.until_begun(2)
    async with outlast.connect(command.url) as backend:
        execution = await backend.start(Taking, 1.0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await anext(event async for event in execution.events() if event.kind == "activity_started")
        for process in (*children, command.process.pid, *children):
            os.kill(process, number)
        assert await command.ended() == 0
        kinds = [event.kind async for event in execution.events(follow=False)]
        assert "activity_completed" in kinds
        assert await backend.workers() == []
    assert "ERROR" not in command.log


async def test_a_second_signal_to_the_supervisor_ends_the_children_at_once(commands: Commands) -> None:
    command = commands(2)
    await command.until_begun(2)
    async with outlast.connect(command.url) as backend:
        execution = await backend.start(Taking, 3600.0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await anext(event async for event in execution.events() if event.kind == "activity_started")
        command.process.send_signal(signal.SIGINT)
        await until(lambda: "stops:" in command.log)
        command.process.send_signal(signal.SIGINT)
        assert await command.ended() == 1
    assert "was not waited for" in command.log


async def test_children_stop_when_their_supervisor_is_killed(commands: Commands) -> None:
    command = commands(2)
    children = await command.until_begun(2)
    command.process.kill()
    await command.ended()
    await until(lambda: not any(map(is_alive, children)))


async def test_without_children_the_command_works_itself(commands: Commands) -> None:
    command = commands(0)
    assert await command.until_begun(1) == [command.process.pid]
    async with outlast.connect(command.url) as backend, asyncio.timeout(PATIENCE_SECONDS):
        assert await (await backend.start(Behaving)).result() == command.process.pid


# Last words -------------------------------------------------------------------------------------------------

DUMP = f"""Fatal Python error: Segmentation fault

Current thread 0x00007f0000000003 (most recent call first):
  File "{os.__file__}", line 1 in string_at
  File "/srv/shop.py", line 7 in crash
  File "/srv/shop.py", line 9 in run
  File "{os.__file__}", line 2 in __bootstrap

Thread 0x00007f0000000002 (most recent call first):
  File "{os.__file__}", line 3 in wait

Thread 0x00007f0000000001 (most recent call first):
  File "/srv/shop.py", line 11 in main

Extension modules: pydantic_core (total: 1)
"""


def test_last_words_are_the_fate_and_the_stacks_of_user_code_with_the_thread_that_was_hit_last() -> None:
    other, hit = stacks_in(DUMP)
    assert other.splitlines()[1:] == ['  File "/srv/shop.py", line 11 in main']
    assert [line.rpartition(" ")[2] for line in hit.splitlines()[1:]] == ["string_at", "crash", "run", "..."]


def test_without_user_code_the_whole_stack_of_the_thread_that_was_hit_is_kept() -> None:
    idle, *_ = stacks_in(DUMP.replace("/srv/shop.py", os.__file__)[: DUMP.index("Thread 0x00007f0000000002")])
    assert len(idle.splitlines()) == 5


def test_only_the_words_of_a_known_process_are_read(tmp_path: Path) -> None:
    words = tmp_path / "0123abcd"
    assert say_last(words, "it ended") == "it ended"
    assert last_words_of("machine:7:0123abcd", tmp_path) == "it ended"
    for identity in ("machine:7:0123abce", "machine", "../0123abcd", "x:../../etc/passwd"):
        assert last_words_of(identity, tmp_path) is None


def test_the_words_of_the_processes_that_ended_last_are_kept(tmp_path: Path) -> None:
    for number in range(WORDS_MAX + 5):
        (tmp_path / f"{number:08x}").write_text("ended")
        os.utime(tmp_path / f"{number:08x}", (number, number))
    forget_old(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"{number:08x}" for number in range(5, WORDS_MAX + 5)
    ]


# The end of memory ------------------------------------------------------------------------------------------

OUT_OF_MEMORY = """
import os, signal, sys
from pathlib import Path
from outlast.runtime.isolation.at_work import MARKS, suspicion_of
counters, words = sys.argv[1], sys.argv[2].partition(",")[2]
MARKS.keep_in(Path(words).with_suffix(".marks"))
with MARKS.at_work(suspicion_of("e")):
    if counters:
        Path(counters).write_text("pgfault 7\\noom_kill 4\\n")
    os.kill(os.getpid(), signal.SIGKILL)
"""
"""A process that ends as one does which the machine kills for want of memory."""


@pytest.mark.parametrize("is_counted", [True, False])
async def test_a_child_that_is_killed_for_want_of_memory_is_at_fault_itself(
    is_counted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counters = tmp_path / "vmstat"
    counters.write_text("pgfault 7\noom_kill 3\n")
    monkeypatch.setattr(supervisor, "COUNTERS", counters)
    words: list[Path] = []

    def command(link: str) -> list[str]:
        words.append(Path(link.partition(",")[2]))
        return [sys.executable, "-c", OUT_OF_MEMORY, str(counters) if is_counted else "", link]

    supervising = ProcessSupervisor(Terms(1, command, dict(os.environ), LEASE_SECONDS))
    running = asyncio.create_task(supervising.run())
    await until(lambda: "was ended by SIGKILL" in caplog.text)
    assert ("since there was no memory left" in caplog.text) is is_counted
    assert part_in(marks_beside(words[0]), "e") is (Part.PRESENT if is_counted else Part.IDLE)
    os.kill(os.getpid(), signal.SIGTERM)
    await running


def test_where_nobody_counts_what_is_killed_for_want_of_memory_there_is_none(tmp_path: Path) -> None:
    assert memory_kills(tmp_path / "vmstat") == 0
    (tmp_path / "vmstat").write_text("pgfault 7\n")
    assert memory_kills(tmp_path / "vmstat") == 0
