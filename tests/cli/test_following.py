"""Following on a terminal: lines go by above, the timeline changes in its place, and is gone in the end."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import re
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

import outlast
from outlast.cli import following
from outlast.cli.following import InPlace, with_ticks
from tests.children import Child


class Screen:
    """A terminal that knows the control sequences of in-place drawing, and refuses others."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = 0

    def write(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
            self._take(part)

    def _take(self, part: str) -> None:
        control = re.fullmatch(r"\x1b\[([?0-9;]*)([A-Za-z])", part)
        if part == "\n":
            self._row += 1
            if self._row == len(self.lines):
                self.lines.append("")
        elif part == "\r":
            self._column = 0
        elif control is None:
            self.lines[self._row] += part
        elif control[2] == "A":
            self._row -= int(control[1] or 1)
        elif control[2] == "K":
            self.lines[self._row] = ""
        else:
            assert control[2] in "mhl", part

    @property
    def text(self) -> list[str]:
        return [line.rstrip() for line in self.lines if line.strip()]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything be drawn at once."""
    for name in ("TICK_SECONDS", "CLOCK_SECONDS", "COST"):
        monkeypatch.setattr(following, name, 0)


def terminal(**options: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=60, height=20, **options)  # type: ignore[arg-type]  # mypy mixes the options


def written(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


@pytest.mark.usefixtures("eager")
def test_lines_go_by_above_a_picture_that_changes_where_it_stands() -> None:
    out, screen, drawn = terminal(), Screen(), 0

    def draw(height: int) -> Iterator[Text]:
        nonlocal drawn
        drawn += 1
        yield from (Text(f"picture {drawn}, row {row}") for row in range(1 + drawn % 3))

    with InPlace(out, draw) as shown:
        for number in range(1, 6):
            shown.add([Text(f"line {number}")])
            screen = Screen()
            screen.write(written(out))
            assert screen.text[:number] == [f"line {one}" for one in range(1, number + 1)]
            assert screen.text[number:] == [f"picture {drawn}, row {row}" for row in range(1 + drawn % 3)]
        shown.tick()
    assert drawn == 6
    screen = Screen()
    screen.write(written(out))
    assert screen.text == [f"line {number}" for number in range(1, 6)]


@pytest.mark.usefixtures("eager")
def test_a_picture_that_is_too_high_keeps_its_end() -> None:
    out, screen = terminal(), Screen()
    with InPlace(out, lambda height: [Text(f"row {row}") for row in range(100)]) as shown:
        shown.tick()
        screen.write(written(out))
        assert screen.text == [f"row {row}" for row in range(84, 100)]


def test_many_lines_at_once_are_printed_together_and_none_is_lost() -> None:
    out, screen, drawn = terminal(), Screen(), 0

    def draw(height: int) -> list[Text]:
        nonlocal drawn
        drawn += 1
        return [Text("picture")]

    with InPlace(out, draw) as shown:
        for number in range(1000):
            shown.add([Text(f"line {number}")])
    screen.write(written(out))
    assert screen.text == [f"line {number}" for number in range(1000)]
    assert drawn < 100


async def test_a_tick_comes_when_nothing_else_does_and_nothing_is_lost() -> None:
    more, closed = asyncio.Event(), False

    async def items() -> AsyncGenerator[int]:
        nonlocal closed
        try:
            yield 1
            await more.wait()
            yield 2
        finally:
            closed = True

    found: list[int | None] = []
    async for item in with_ticks(items(), 0.001):
        found.append(item)
        if len(found) == 4:
            more.set()
    assert found[:4] == [1, None, None, None]
    assert [item for item in found if item is not None] == [1, 2]
    assert closed


async def test_whoever_stops_to_listen_closes_what_is_listened_to() -> None:
    closed = False

    async def items() -> AsyncGenerator[int]:
        nonlocal closed
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed = True

    ticks = with_ticks(items(), 10.0)
    assert await anext(ticks) == 1
    await ticks.aclose()
    assert closed


async def test_an_error_of_the_stream_is_raised() -> None:
    async def items() -> AsyncGenerator[int]:
        yield 1
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        async for _ in with_ticks(items(), 10.0):
            pass


@pytest.mark.parametrize("colour", [True, False])
async def test_show_follows_on_a_terminal_to_the_end(shop: Path, colour: bool) -> None:
    """The command runs on a real terminal while a worker carries the execution on."""
    controller, shown = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    environment |= {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"} | ({} if colour else {"NO_COLOR": "1"})
    sys.path.insert(0, str(shop))
    import shop as module  # type: ignore[import-not-found]  # the fixture writes it

    async with outlast.connect("sqlite:///shop.db") as backend:
        await backend.start(module.Order, "apple", id="o-1")
        command = [sys.executable, "-m", "outlast.cli", "show", "o-1", "--follow"]
        process = Child(command, stdin=shown, stdout=shown, stderr=shown, env=environment)
        os.close(shown)
        try:
            async with asyncio.timeout(60):
                text = await until(controller, "", "execution of order started")
                async with backend.worker([module.Order]):
                    text = await until(controller, text, "result")
                await asyncio.to_thread(process.wait)
        finally:
            process.kill()
            process.wait()
            os.close(controller)
    screen = Screen()
    screen.write(text)
    lines = screen.text
    assert sum("activity price_of completed" in line for line in lines) == 1
    assert sum(line.startswith("workflow code  ╞") for line in lines) == 1
    assert any("execution completed" in line for line in lines)
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-7]m", text)) is colour


async def until(controller: int, text: str, word: str) -> str:
    """Read from a terminal until it has shown a word."""
    while word not in text:
        text += (await asyncio.to_thread(os.read, controller, 65536)).decode()
    return text
