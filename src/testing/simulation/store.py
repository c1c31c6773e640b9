"""The store as one host sees it: behind a network that takes time, and with the faults of the simulation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from outlast.core.errors import StorageUnavailable
from outlast.ports.journal import Claim, Commit, Head, Message, NewExecution, Store, Work
from outlast.testing.lifeline import Lifeline
from outlast.testing.simulation.fate import Fate
from outlast.testing.simulation.faults import FaultKind, SimulatedFault
from outlast.testing.simulation.host import SimulatedHost
from outlast.testing.simulation.referee import Referee

T = TypeVar("T")


class SimulatedStore(Lifeline):
    """Passes calls on to `store` as a network does; the referee sees each when the store carries it out.

    A call has two ways: there, when nothing has happened yet, and back. Only the host of a `worker` crashes,
    stands still or is cut off; the hosts of callers only wait for longer, and send twice.
    """

    def __init__(
        self, store: Store, host: SimulatedHost, fate: Fate, referee: Referee, *, is_worker: bool
    ) -> None:
        super().__init__(store)
        self._host = host
        self._fate = fate
        self._referee = referee
        self._is_worker = is_worker

    def cut(self) -> None:
        self._host.is_dead = True
        super().cut()

    async def _pass_on(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self._check_alive()
        faults = self._fate.of_call(self._host, name) if self._is_worker else ()
        await self._on_its_way([fault for fault in faults if not fault.after], name)
        result = await call()
        await self._on_its_way([fault for fault in faults if fault.after], name)
        return result

    async def _on_its_way(self, faults: Sequence[SimulatedFault], name: str) -> None:
        """Go one of the two ways of a call."""
        seconds = self._fate.way_seconds()
        for fault in faults:
            match fault.kind:
                case FaultKind.CRASH:
                    self.cut()
                case FaultKind.PAUSE:
                    self._host.stand_still(fault.seconds)
                case FaultKind.SLOW:
                    seconds += fault.seconds
                case FaultKind.CLOCK_STEP:
                    self._host.machine.ahead += fault.seconds
                case FaultKind.CUT:
                    await asyncio.sleep(seconds)
                    await self._host.going()
                    self._check_alive()
                    raise StorageUnavailable(f"the connection broke during {name}()")
                case FaultKind.LOST_WAKE_UP | FaultKind.DUPLICATE:
                    pass
        self._check_alive()
        await self._host.going()
        await asyncio.sleep(seconds)
        await self._host.going()
        self._check_alive()

    # What the referee sees ---------------------------------------------------------------------------------

    async def create(self, new: NewExecution, first: bytes, more: Sequence[bytes] = ()) -> tuple[Head, bool]:
        async def call() -> tuple[Head, bool]:
            head, created = await self._store.create(new, first, more)
            if created:
                self._referee.created(new.id, [first, *more])
            self._note(f"create {new.id}: {'created' if created else 'was there'}")
            return head, created

        return await self._pass_on("create", call)

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        what = f"append {claim.execution_id} token {claim.token} at {position}: {len(records)} records"

        async def call() -> None:
            try:
                await self._store.append(claim, position, records, commit)
            except Exception as error:
                self._note(f"{what}, refused: {type(error).__name__}")
                raise
            self._note(f"{what}{_committed(commit)}")
            await self._referee.appended(self._store, claim, position, records, commit)

        await self._pass_on("append", call)

    async def claim(
        self, worker: str, workflows: Collection[str], task_queue: str, *, limit: int, lease_seconds: float
    ) -> Work:
        async def call() -> Work:
            work = await self._store.claim(
                worker, workflows, task_queue, limit=limit, lease_seconds=lease_seconds
            )
            self._referee.claimed(work.claims, lease_seconds)
            for one in work.claims:
                lost = "" if one.recovered_from is None else f" from {one.recovered_from}"
                self._note(f"claim {one.execution_id} token {one.token}{lost}")
            return work

        return await self._pass_on("claim", call)

    async def renew(self, claims: Collection[Claim], lease_seconds: float) -> frozenset[str]:
        async def call() -> frozenset[str]:
            lost = await self._store.renew(claims, lease_seconds)
            self._referee.renewed(claims, lost, lease_seconds)
            self._note(f"renew {len(claims)} claims, lost: {sorted(lost)}")
            return lost

        return await self._pass_on("renew", call)

    async def send(self, execution_id: str, message: Message) -> None:
        faults = self._fate.of_send(self._host, "send")

        async def call() -> None:
            self._note(f"send {execution_id} message {message.id}")
            await self._store.send(execution_id, message)
            if faults:
                await self._store.send(execution_id, message)

        await self._pass_on("send", call)

    async def wait(self, version: int, timeout_seconds: float) -> None:
        await self._waited("wait", lambda: self._store.wait(version, timeout_seconds), timeout_seconds)

    async def follow(self, execution_id: str, length: int, timeout_seconds: float) -> None:
        await self._waited(
            "follow", lambda: self._store.follow(execution_id, length, timeout_seconds), timeout_seconds
        )

    async def _waited(self, name: str, wait: Callable[[], Awaitable[None]], timeout_seconds: float) -> None:
        is_lost = bool(self._fate.of_wait(self._host, name))
        self._check_alive()
        await self._on_its_way((), name)
        await (asyncio.sleep(timeout_seconds) if is_lost else wait())
        await self._on_its_way((), name)

    def _note(self, text: str) -> None:
        self._fate.note(self._host, text)


def _committed(commit: Commit) -> str:
    """Return in words what a commit does to the claim."""
    if commit.status is not None:
        return f", {commit.status}"
    if not commit.release:
        return ""
    return ", held" if commit.hold else ", released"
