from test_outlast_json import TemporaryFile, TestJsonStore

from outlast.testing import JournalContract, RealClock, StoreCapability


class OnRealTime(TemporaryFile):
    """The same, as if no test could move the time."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = RealClock()


class TestOnRealTime(JournalContract):
    new_storage = OnRealTime
    capabilities = TestJsonStore.capabilities - {StoreCapability.MOVABLE_CLOCK}
    lease_seconds = 0.5
