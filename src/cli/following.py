"""Drawing in place: the newest lines go by above, and what is drawn below them changes where it stands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

T = TypeVar("T")

TICK_SECONDS = 0.2
"""The time between two looks at whether there is something to draw."""
CLOCK_SECONDS = 1.0
"""Times that run are drawn again after this time, even if nothing else has changed."""
COST = 10
"""Drawing takes one part in so many of the time."""


async def with_ticks(items: AsyncGenerator[T] | AsyncIterator[T], seconds: float) -> AsyncGenerator[T | None]:
    """Yield the items, and None whenever none has come for `seconds`."""
    coming: asyncio.Future[T] = asyncio.ensure_future(anext(items))
    try:
        while True:
            done, _ = await asyncio.wait([coming], timeout=seconds)
            if not done:
                yield None
                continue
            try:
                item = coming.result()
            except StopAsyncIteration:
                return
            coming = asyncio.ensure_future(anext(items))
            yield item
    finally:
        coming.cancel()
        await asyncio.wait([coming])
        if isinstance(items, AsyncGenerator):
            await items.aclose()


class InPlace:
    """Prints lines, with a picture below them that is drawn again in its place; it goes away in the end."""

    def __init__(self, out: Console, draw: Callable[[int], Iterable[Text]]) -> None:
        """Take the function that draws the picture in at most so many lines."""
        self._out = out
        self._draw = draw
        self._lines: list[Text] = []
        self._next = 0.0
        self._clock = 0.0
        self._live = Live(console=out, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._print()
        self._live.stop()

    def add(self, lines: Iterable[Text]) -> None:
        """Take further lines; many that come at once are printed together."""
        self._lines += lines
        self.tick()

    def tick(self) -> None:
        """Print what was taken and draw the picture, if it is time for that."""
        now = time.monotonic()
        if now < (self._next if self._lines else self._clock):
            return
        height = max(5, self._out.size.height - 4)
        self._print()
        self._live.update(Group(*list(self._draw(height))[-height:]), refresh=True)
        done = time.monotonic()
        self._next = done + max(TICK_SECONDS, COST * (done - now))
        self._clock = done + max(CLOCK_SECONDS, COST * (done - now))

    def _print(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._out.print(*lines, sep="\n")
