"""Backends that break one promise of the durability port each, in a way that somebody might write by mistake.

They prove that the contract suite bites: for each of them a test with the number of the promise fails. Each
docstring says what the mistake is.
"""

from __future__ import annotations

from tests.broken import agents, children, engines, lying_stores, pausing, reruns, resume_contract
from tests.broken.broken_backend import BrokenBackend

__all__ = ["BROKEN_BACKENDS", "BrokenBackend"]

BROKEN_BACKENDS: tuple[type[BrokenBackend], ...] = tuple(
    one
    for module in (agents, children, lying_stores, engines, pausing, reruns, resume_contract)
    for one in vars(module).values()
    if isinstance(one, type) and issubclass(one, BrokenBackend) and one.__module__ == module.__name__
)
