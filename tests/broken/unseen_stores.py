"""Stores whose mistakes no suite can see, with the reasons. `docs/how-to/writing-a-backend.md` lists them.

A test shows that they pass, so that the list stays true: when one of them is caught, it moves to the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from outlast.adapters.memory.store import StoredExecution
from outlast.ports.journal import Claim, Commit
from tests.broken.stores import BrokenStore


class UnseenStore(BrokenStore):
    """A store that passes, and is broken."""

    breaks = ""
    found_by_random_programs = False


class LosesItsLastWritesWithThePower(UnseenStore):
    """It answers before the disk has the write: a test can kill a process, and cannot cut the power."""

    def cut_the_power(self) -> None:
        """Lose the last record of each execution; nothing in a suite can call this."""
        for execution in self._medium.executions.values():
            del execution.records[max(len(execution.records) - 1, 1) :]


class CutsAfterAHundredThousand(UnseenStore):
    """It returns 100,000 records at most: a suite that went so far would take minutes on many stores."""

    async def read(self, execution_id: str, after: int = 0, limit: int | None = None) -> Sequence[bytes]:
        return await super().read(execution_id, after, min(limit or 100_000, 100_000))


class LosesOneRaceOfAThousand(UnseenStore):
    """One append of a thousand is not fenced: the suite meets each race a few times, and on one machine."""

    appends = 0

    def _owned(self, claim: Claim) -> StoredExecution | None:
        if self.appends % 1000 == 999:
            return self._medium.running.get(claim.execution_id)
        return super()._owned(claim)

    async def append(self, claim: Claim, position: int, records: Sequence[bytes], commit: Commit) -> None:
        self.appends += 1
        await super().append(claim, position, records, commit)


class KeepsWhatItForgot(UnseenStore):
    """Executions that `prune` forgets stay on the disk: a suite sees the port, and not the files."""

    async def prune(self, ended_before: float | None = None) -> int:
        self.left_behind = dict(self._medium.executions)
        return await super().prune(ended_before)


class LooksAtEverything(UnseenStore):
    """A claim reads every row that there is: a suite does not measure, and a slow store is a right one."""

    def _seconds_until(self, execution: StoredExecution) -> float:
        sum(len(one.records) for one in self._medium.executions.values())
        return super()._seconds_until(execution)


UNSEEN_STORES: tuple[type[BrokenStore], ...] = tuple(UnseenStore.__subclasses__())
