"""A test that times out names the call that it waited for, and shows the storage."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from outlast.adapters.memory.store import MemoryStore
from outlast.core.errors import StorageError
from outlast.testing import MemoryStorage
from outlast.testing.contracts.durability.in_store import InStore
from outlast.testing.contracts.durability.stage import Stage
from outlast.testing.contracts.durability.waiting import Mailbox
from outlast.testing.contracts.journal.contract import JournalContract
from outlast.testing.contracts.patience import at_most, in_words


async def wait_for_ever(what: str = "nothing", *, times: int = 1) -> None:
    await asyncio.Event().wait()


async def test_the_message_names_what_the_block_waited_for_and_the_state() -> None:
    async def state() -> str:
        return "the state"

    with pytest.raises(AssertionError, match=r"waited 0\.01 s in vain for a sign\nthe state") as raised:
        async with at_most(0.01, "a sign", state):
            await wait_for_ever()
    assert isinstance(raised.value.__cause__, TimeoutError)


async def test_a_timeout_raised_in_the_block_is_raised_unchanged() -> None:
    with pytest.raises(TimeoutError, match="its own"):
        async with at_most(10, "a sign"):
            raise TimeoutError("its own")


async def test_a_storage_that_cannot_be_looked_at_hides_nothing() -> None:
    async def state() -> str:
        raise StorageError("the disk is gone")

    with pytest.raises(AssertionError, match=r"in vain for a sign\n.*the disk is gone"):
        async with at_most(0.01, "a sign", state):
            await wait_for_ever()


async def test_the_awaited_call_is_named_with_its_arguments() -> None:
    waiting = wait_for_ever("x" * 1000, times=2)
    words = in_words(waiting)
    assert words.startswith("wait_for_ever(what='xxx")
    assert words.endswith("xxx', times=2)")
    assert len(words) < 120
    task = asyncio.create_task(waiting)
    await asyncio.sleep(0)
    assert in_words(task) == "wait_for_ever()"
    task.cancel()


async def test_a_stage_shows_its_processes_and_executions() -> None:
    stage = Stage(InStore(MemoryStorage()), timedelta(seconds=10), 0.2)
    try:
        execution, _ = await stage.start(Mailbox)
        process = await stage.worker(Mailbox)
        with pytest.raises(AssertionError) as raised:
            await stage.soon(execution.result())
        words = str(raised.value)
        assert "waited 0.2 s in vain for JournaledExecution.result()" in words
        assert "worker of Mailbox: works" in words
        assert f"execution {execution.id} of contract.mailbox: running" in words
        assert "1 execution_started" in words
        await process.stop()
        assert "worker of Mailbox: ended" in await stage.state()
    finally:
        await stage.close()


async def test_the_journal_contract_shows_its_executions() -> None:
    class Deaf(MemoryStore):
        async def follow(self, execution_id: str, length: int, timeout_seconds: float) -> None:
            await asyncio.Event().wait()

    class DeafStorage(MemoryStorage):
        def open(self) -> MemoryStore:
            return Deaf(self.clock, medium=self.medium)

    class ContractOfIt(JournalContract):
        new_storage = DeafStorage
        patience_seconds = 0.1

    storage = DeafStorage()
    async with storage.open() as store:
        with pytest.raises(AssertionError, match=r"in vain for .*follow\(\)(?s:.*)Head\(id='e'"):
            await ContractOfIt().test_following_ends_with_the_next_append(storage, store)


class CountedStore(MemoryStore):
    """A store that its medium knows to be open."""

    def __init__(self, storage: CountedStorage) -> None:
        super().__init__(storage.clock, medium=storage.medium)
        self._open = storage.open_stores

    async def __aenter__(self) -> MemoryStore:
        self._open.add(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open.remove(self)


class CountedStorage(MemoryStorage):
    def __init__(self) -> None:
        super().__init__()
        self.open_stores: set[MemoryStore] = set()

    def open(self) -> MemoryStore:
        return CountedStore(self)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_process_that_has_ended_has_closed_its_store(how: str) -> None:
    storage = CountedStorage()
    stage = Stage(InStore(storage), timedelta(seconds=10), 5.0)
    try:
        process = await stage.worker(Mailbox)
        assert len(storage.open_stores) == 1
        await (process.stop() if how == "stop" else process.kill())
        assert not storage.open_stores
    finally:
        await stage.close()


async def test_a_program_that_cannot_open_its_storage_leaves_nothing_open() -> None:
    storages: list[CountedStorage] = []

    class Refusing(CountedStorage):
        def __init__(self) -> None:
            super().__init__()
            storages.append(self)

        def open(self) -> MemoryStore:
            if self.open_stores:
                raise StorageError("no second store here")
            return super().open()

    class ContractOfIt(JournalContract):
        new_storage = Refusing

    with pytest.raises(StorageError, match="no second store"):
        await asyncio.to_thread(ContractOfIt().test_random_programs_agree_with_a_list)
    assert storages
    assert not any(storage.open_stores for storage in storages)
