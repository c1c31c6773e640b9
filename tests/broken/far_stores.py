"""A store in memory behind a line that can be cut, and those that do not bear it.

The sound one imitates a store on a server: while the line is cut, each call raises `StorageUnavailable`, and
a wait ends as soon as the line breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeVar

from outlast.core.errors import StorageUnavailable
from outlast.ports.journal import Store
from outlast.testing.contracts.journal.memory_storage import MemoryStorage
from outlast.testing.contracts.journal.storage import BreakableStorage
from outlast.testing.lifeline import WAITS, Lifeline

T = TypeVar("T")
READS = frozenset({"read", "messages", "head", "heads", "workers"})


class BreakableLine:
    """The line between the stores and their storage."""

    def __init__(self) -> None:
        self.is_cut = False
        self.breaks = 0
        self.changed = asyncio.Condition()

    async def set(self, is_cut: bool) -> None:
        async with self.changed:
            self.is_cut, self.breaks = is_cut, self.breaks + is_cut
            self.changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with self.changed:
            await self.changed.wait_for(condition)


class FarStore(Lifeline):
    """A store at the other end of a line."""

    def __init__(self, store: Store, line: BreakableLine) -> None:
        super().__init__(store)
        self.line = line

    async def __aenter__(self) -> FarStore:
        self.check()
        await super().__aenter__()
        return self

    def check(self) -> None:
        if self.line.is_cut:
            raise StorageUnavailable("the line is cut; try again")

    async def _pass_on(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self.check()
        return await (self.wait_over_the_line(call) if name in WAITS else call())

    async def wait_over_the_line(self, call: Callable[[], Awaitable[T]]) -> T:
        breaks = self.line.breaks
        tasks = {
            asyncio.ensure_future(call()),
            asyncio.ensure_future(self.line.until(lambda: self.line.breaks > breaks)),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        return None  # type: ignore[return-value]  # a wait returns nothing


class FarStorage(MemoryStorage, BreakableStorage):
    """Storage whose stores are far away."""

    store_class: ClassVar[type[FarStore]] = FarStore

    def __init__(self) -> None:
        super().__init__()
        self.line = BreakableLine()

    def open(self) -> FarStore:  # type: ignore[override]  # it stands before a store in memory
        return self.store_class(super().open(), self.line)

    async def cut_off(self) -> None:
        await self.line.set(True)

    async def come_back(self) -> None:
        await self.line.set(False)


class RaisesTheErrorOfItsDriver(FarStorage):
    """The error of the network comes through as it is."""

    class store_class(FarStore):
        def check(self) -> None:
            if self.line.is_cut:
                raise ConnectionError("connection refused")


class TranslatesOnlyTheErrorsOfWrites(FarStorage):
    """Looking at things has no translation of errors."""

    class store_class(FarStore):
        async def _pass_on(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
            if name in READS and self.line.is_cut:
                raise ConnectionError("connection refused")
            return await super()._pass_on(name, call)


class KnowsNothingWhileItIsCutOff(FarStorage):
    """Things that cannot be read are taken for things that are not there."""

    class store_class(FarStore):
        async def _pass_on(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
            if name in READS and self.line.is_cut:
                return None if name == "head" else ()  # type: ignore[return-value]
            return await super()._pass_on(name, call)


class HangsWhileItIsCutOff(FarStorage):
    """A call waits, without a limit, until the line is there again."""

    class store_class(FarStore):
        async def _pass_on(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
            await self.line.until(lambda: not self.line.is_cut)
            return await super()._pass_on(name, call)


class StaysBroken(FarStorage):
    """A connection that broke is never made again."""

    class store_class(FarStore):
        def check(self) -> None:
            if self.line.breaks:
                raise StorageUnavailable("the connection is closed")


class AppendsWhenItIsBack(FarStorage):
    """An append that was refused with an error is made later all the same."""

    class store_class(FarStore):
        async def _pass_on(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
            if name == "append" and self.line.is_cut:
                later = asyncio.ensure_future(self.make_later(call))
                later.add_done_callback(lambda done: done.cancelled() or done.exception())
            return await super()._pass_on(name, call)

        async def make_later(self, call: Callable[[], Awaitable[T]]) -> None:
            await self.line.until(lambda: not self.line.is_cut)
            await call()


class LosesItsSubscriptions(FarStorage):
    """It listens on the connection that it had when it was opened."""

    class store_class(FarStore):
        async def wait_over_the_line(self, call: Callable[[], Awaitable[T]]) -> T:
            if self.line.breaks:
                await asyncio.Event().wait()
            return await super().wait_over_the_line(call)


class WaitsOnADeadConnection(FarStorage):
    """A wait does not notice that the connection which is to wake it broke."""

    class store_class(FarStore):
        async def wait_over_the_line(self, call: Callable[[], Awaitable[T]]) -> T:
            breaks = self.line.breaks
            result = await call()
            if self.line.breaks > breaks:
                await asyncio.Event().wait()
            return result


class EndsItsWaitsWithTheErrorOfItsDriver(FarStorage):
    """A wait that loses its connection raises what the driver raises."""

    class store_class(FarStore):
        async def wait_over_the_line(self, call: Callable[[], Awaitable[T]]) -> T:
            breaks = self.line.breaks
            result = await super().wait_over_the_line(call)
            if self.line.breaks > breaks:
                raise ConnectionResetError("connection reset by peer")
            return result


class LosesItsData(FarStorage):
    """The server that comes back has only what it had written to its disk, and that was long ago."""

    async def cut_off(self) -> None:
        await super().cut_off()
        for execution in self.medium.executions.values():
            del execution.records[1:]


class ReleasesEverything(FarStorage):
    """A lost connection gives up all leases, as locks of a session are given up."""

    async def cut_off(self) -> None:
        await super().cut_off()
        for execution in self.medium.running.values():
            execution.release(self.clock.steady())


FAR_STORAGES: tuple[type[FarStorage], ...] = tuple(FarStorage.__subclasses__())
