"""What type checkers see of the package; `__init__.py` says where each name is loaded from."""

from outlast.testing.contracts.deltas.contract import DeltasContract as DeltasContract
from outlast.testing.contracts.deltas.contract import DeltasPlace as DeltasPlace
from outlast.testing.contracts.durability.contract import DurabilityContract as DurabilityContract
from outlast.testing.contracts.durability.in_store import InStore as InStore
from outlast.testing.contracts.durability.storage import BackendCapability as BackendCapability
from outlast.testing.contracts.durability.storage import DurabilityStorage as DurabilityStorage
from outlast.testing.contracts.journal.contract import JournalContract as JournalContract
from outlast.testing.contracts.journal.memory_storage import MemoryStorage as MemoryStorage
from outlast.testing.contracts.journal.storage import MovableClock as MovableClock
from outlast.testing.contracts.journal.storage import Storage as Storage
from outlast.testing.contracts.journal.storage import StoreCapability as StoreCapability
from outlast.testing.contracts.session.contract import SessionCapability as SessionCapability
from outlast.testing.contracts.session.contract import SessionContract as SessionContract
from outlast.testing.contracts.session.programs import SessionProgram as SessionProgram
from outlast.testing.contracts.session.programs import SessionWorld as SessionWorld
from outlast.testing.contracts.tools.contract import Toolbox as Toolbox
from outlast.testing.contracts.tools.contract import ToolsCapability as ToolsCapability
from outlast.testing.contracts.tools.contract import ToolsContract as ToolsContract
from outlast.testing.contracts.tools.contract import ToolsWorld as ToolsWorld
from outlast.testing.real_clock import RealClock as RealClock
from outlast.testing.virtual_clock import IdleAwareEventLoop as IdleAwareEventLoop
from outlast.testing.virtual_clock import VirtualClock as VirtualClock

__all__: list[str]
