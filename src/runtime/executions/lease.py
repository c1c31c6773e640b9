"""The lease of one claim, as the worker that holds it knows it."""

from __future__ import annotations

from outlast.core.errors import LeaseLost
from outlast.ports.clock import Clock
from outlast.ports.journal import Claim, Store
from outlast.runtime.executions.store_retry import patiently


class Lease:
    """Knows until when a claim is certainly good, by the worker's own steady clock (D20).

    The store counts a lease from a moment after the worker asked for it. This class counts it from the moment
    of asking, so it ends here first: what begins while it is good begins before any other worker can claim
    the execution.
    """

    def __init__(self, claim: Claim, store: Store, clock: Clock, seconds: float, asked_at: float) -> None:
        self._claim = claim
        self._store = store
        self._clock = clock
        self._seconds = seconds
        self._good_until = asked_at + seconds

    def extend(self, asked_at: float) -> None:
        """Note that the store has renewed the lease at some moment after `asked_at`."""
        self._good_until = max(self._good_until, asked_at + self._seconds)

    @property
    def is_good(self) -> bool:
        """True if no other worker can have claimed the execution."""
        return self._clock.steady() < self._good_until

    async def confirm(self) -> None:
        """Return while the lease is good, after renewing it if it may have run out.

        Raises:
            LeaseLost: another worker has claimed the execution.
            StorageError: the store failed for longer than it was worth waiting.
        """
        while not self.is_good:
            asked_at = self._clock.steady()
            lost = await patiently(
                lambda: self._store.renew([self._claim], self._seconds),
                self._clock,
                doing=f"execution {self._claim.execution_id}",
            )
            if lost:
                raise LeaseLost(self._claim.execution_id)
            self.extend(asked_at)
