"""The calls of all executions that wait for a person, among many executions that wait for something else."""

from __future__ import annotations

from collections.abc import Sequence

from outlast.adapters.memory.store import MemoryStore
from outlast.core.events import EventKind
from outlast.ports.durability.pending import inbox_of
from outlast.runtime.attempts.system_clock import SystemClock
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.testing.contracts.durability.approvals import Spender
from outlast.testing.contracts.durability.waiting import Mailbox


class WatchedStore(MemoryStore):
    """A store in memory that notes whose journals are read."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.was_read: set[str] = set()

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        self.was_read.add(execution_id)
        return await super().read(execution_id, after, limit)


async def test_only_journals_with_such_calls_are_read_and_a_limit_says_that_there_are_more() -> None:
    store = WatchedStore()
    async with JournaledBackend(store, SystemClock()) as backend:
        others = [await backend.start(Mailbox, id=f"m-{number}") for number in range(20)]
        asking = [await backend.start(Spender, [["Ann", 70]], id=f"s-{number}") for number in range(3)]
        async with backend.worker([Mailbox, Spender]):
            for execution in (*others, *asking):
                wanted = EventKind.APPROVAL_REQUESTED if execution in asking else EventKind.EXECUTION_STARTED
                async for event in execution.events():
                    if event.kind is wanted:
                        break
            for execution in (others[0], asking[0]):
                assert await execution.pause()
                async for event in execution.events():
                    if event.kind is EventKind.EXECUTION_PAUSED:
                        break
        store.was_read.clear()
        found = await inbox_of(backend)
        assert found.is_all
        assert [id for id, _ in found.calls] == ["s-0", "s-1", "s-2"]
        assert store.was_read == {"s-0", "s-1", "s-2"}
        some = await inbox_of(backend, limit=1)
        assert ([id for id, _ in some.calls], some.is_all) == (["s-0", "s-2"], False)
