from test_outlast_json import TemporaryFile

from outlast.testing import JournalContract, RealClock, StoreCapability


class OnRealTime(TemporaryFile):
    """The same, as if no test could move the time."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = RealClock()


class TestOnRealTime(JournalContract):
    new_storage = OnRealTime
    capabilities = frozenset({StoreCapability.PUSH_WAKEUP, StoreCapability.PARALLEL_OPENING})
    lease_seconds = 0.5
