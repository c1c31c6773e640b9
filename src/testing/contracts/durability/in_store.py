"""Durability storage made from a store's storage: the journaled backend, with a lifeline for each process."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from outlast.adapters.memory.deltas import MemoryDeltas
from outlast.ports.deltas import Deltas
from outlast.ports.durability.backend import Backend
from outlast.ports.journal import Store
from outlast.runtime.executions.journaled_backend import JournaledBackend
from outlast.testing.contracts.durability.storage import DurabilityStorage
from outlast.testing.contracts.journal.storage import MovableClock, Storage
from outlast.testing.lifeline import Lifeline

STEP_SECONDS = 1.0
"""Time passes in steps that are shorter than any lease, so that a living worker keeps its own."""


class SharedDeltas(MemoryDeltas):
    """One of several views of the same text; it stays when a view is closed."""

    def __init__(self, shared: MemoryDeltas) -> None:
        self.__dict__ = shared.__dict__

    async def __aexit__(self, *_: object) -> None:
        """Leave the text to the other views."""


class InStore(DurabilityStorage):
    """Executions in what `storage` opens; the journal contract's storage serves this one as well."""

    lifeline: ClassVar[type[Lifeline]] = Lifeline

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.lifelines: dict[Backend, Lifeline] = {}
        self._text = MemoryDeltas(self.clock)

    @property
    def clock(self) -> MovableClock:
        return self.storage.clock

    def open(self) -> JournaledBackend:
        return self.open_on(self.lifeline(self.storage.open()))

    def open_on(self, lifeline: Lifeline) -> JournaledBackend:
        """Return a backend whose process dies when `lifeline` is cut."""
        backend = self.backend_on(lifeline)
        self.lifelines[backend] = lifeline
        return backend

    def backend_on(self, store: Store) -> JournaledBackend:
        """Return the backend under test; a broken one overrides this."""
        return JournaledBackend(store, self.clock, self.open_deltas())

    def open_deltas(self) -> Deltas:
        """Return the place for text for one more process; by default it ends with the test."""
        return SharedDeltas(self._text)

    async def pass_time(self, seconds: float) -> None:
        while seconds > 0:
            await self.clock.advance(min(seconds, STEP_SECONDS))
            await self.settle()
            seconds -= STEP_SECONDS

    async def settle(self) -> None:
        """Return when no store is working on a call, and no other call follows."""
        quiet = 0
        while quiet < 20:
            # Answers come from threads and files, so turns of the loop alone do not bring them.
            busy = not all(lifeline.is_quiet for lifeline in self.lifelines.values())
            await asyncio.sleep(0.001 if busy else 0)
            quiet = 0 if busy else quiet + 1

    async def kill(self, backend: Backend) -> None:
        self.lifelines[backend].cut()

    async def pause(self, backend: Backend) -> None:
        self.lifelines[backend].block()

    async def resume(self, backend: Backend) -> None:
        self.lifelines[backend].unblock()

    async def stored_bytes(self) -> bytes:
        parts: list[bytes] = []
        async with self.storage.open() as store:
            for head in await store.heads(limit=10_000):
                parts += [repr(head).encode(), *await store.read(head.id)]
                parts += [delivery.message.body for delivery in await store.messages(head.id, 0)]
        return b"\n".join(parts)

    async def dispose(self) -> None:
        await self.storage.dispose()
