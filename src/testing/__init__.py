"""For those who write an adapter or test a program: contract suites, stand-ins, a virtual clock.

Each suite is a class of pytest tests that is given the thing under test. All of it needs the extra `testing`.

Every public name is in one table, with the module that it lives in, and is loaded when it is first used.
Type checkers read `__init__.pyi`, which a test compares with the table.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from outlast.core.errors import MissingExtra

if any(find_spec(package) is None for package in ("anyio", "hypothesis", "jsonschema", "pytest")):
    raise MissingExtra("testing")

_MODULES = {
    "BackendCapability": "contracts.durability.storage",
    "DeltasContract": "contracts.deltas.contract",
    "DeltasPlace": "contracts.deltas.contract",
    "DurabilityContract": "contracts.durability.contract",
    "DurabilityStorage": "contracts.durability.storage",
    "IdleAwareEventLoop": "virtual_clock",
    "InStore": "contracts.durability.in_store",
    "JournalContract": "contracts.journal.contract",
    "MemoryStorage": "contracts.journal.memory_storage",
    "MovableClock": "contracts.journal.storage",
    "RealClock": "real_clock",
    "SessionCapability": "contracts.session.contract",
    "SessionContract": "contracts.session.contract",
    "SessionProgram": "contracts.session.programs",
    "SessionWorld": "contracts.session.programs",
    "Storage": "contracts.journal.storage",
    "StoreCapability": "contracts.journal.storage",
    "Toolbox": "contracts.tools.contract",
    "ToolsCapability": "contracts.tools.contract",
    "ToolsContract": "contracts.tools.contract",
    "ToolsWorld": "contracts.tools.contract",
    "VirtualClock": "virtual_clock",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
