"""For those who test a program, or write an adapter: an environment, models that play, contract suites.

What tests a program needs pytest alone, and that only for the fixture: extra `testing`. The suites for
adapters, classes of pytest tests that are given the thing under test, and the stand-in for Mistral's API need
the extra `conformance`.

Every public name is in one table, with the module that it lives in, and is loaded when it is first used.
Type checkers read `__init__.pyi`, which a test compares with the table. The package itself imports nothing:
pytest imports it in every project where this library is installed, for the plugin.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "BackendCapability": "outlast.testing.contracts.durability.storage",
    "BreakableStorage": "outlast.testing.contracts.journal.storage",
    "BreakingContract": "outlast.testing.contracts.journal.breaking",
    "CrashContract": "outlast.testing.contracts.crash.contract",
    "DeltasContract": "outlast.testing.contracts.deltas.contract",
    "DeltasPlace": "outlast.testing.contracts.deltas.contract",
    "Difference": "outlast.testing.differences",
    "DurabilityContract": "outlast.testing.contracts.durability.contract",
    "DurabilityStorage": "outlast.testing.contracts.durability.storage",
    "Effect": "outlast.testing.effects",
    "Environment": "outlast.testing.environment",
    "IdleAwareEventLoop": "outlast.testing.virtual_clock",
    "InStore": "outlast.testing.contracts.durability.in_store",
    "JournalContract": "outlast.testing.contracts.journal.contract",
    "MemoryStorage": "outlast.testing.contracts.journal.memory_storage",
    "ModelCall": "outlast.adapters.scripted.model",
    "ModelCallForbidden": "outlast.testing.overriding",
    "ModelFailure": "outlast.adapters.scripted.model",
    "MovableClock": "outlast.testing.contracts.journal.storage",
    "RealClock": "outlast.testing.real_clock",
    "RecordedCall": "outlast.testing.recordings",
    "RecordedTurn": "outlast.testing.recordings",
    "Recording": "outlast.testing.recordings",
    "Reply": "outlast.adapters.scripted.model",
    "ScriptExhausted": "outlast.adapters.scripted.model",
    "ScriptedSession": "outlast.adapters.scripted.session",
    "SessionCapability": "outlast.testing.contracts.session.contract",
    "SessionContract": "outlast.testing.contracts.session.contract",
    "SessionProgram": "outlast.testing.contracts.session.programs",
    "SessionWorld": "outlast.testing.contracts.session.programs",
    "Stalled": "outlast.testing.stalls",
    "Storage": "outlast.testing.contracts.journal.storage",
    "StoreCapability": "outlast.testing.contracts.journal.storage",
    "TestSession": "outlast.adapters.scripted.trying_out",
    "Toolbox": "outlast.testing.contracts.tools.contract",
    "ToolsCapability": "outlast.testing.contracts.tools.contract",
    "ToolsContract": "outlast.testing.contracts.tools.contract",
    "ToolsWorld": "outlast.testing.contracts.tools.contract",
    "VirtualClock": "outlast.testing.virtual_clock",
    "WrongReply": "outlast.adapters.scripted.model",
    "call": "outlast.adapters.scripted.model",
    "calls": "outlast.adapters.scripted.model",
    "compare": "outlast.testing.differences",
    "fail": "outlast.adapters.scripted.model",
    "forbid_model_calls": "outlast.testing.overriding",
    "handoff": "outlast.adapters.scripted.model",
    "override": "outlast.testing.overriding",
    "replay": "outlast.testing.replaying",
    "say": "outlast.adapters.scripted.model",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
