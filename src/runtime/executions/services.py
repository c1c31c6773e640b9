"""The things that a worker lends to the drivers of its executions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from outlast.ports.clock import Clock
from outlast.ports.deltas import Deltas
from outlast.ports.journal import Store
from outlast.ports.resources import Resources
from outlast.runtime.executions.lost_workers import NOBODY, Witness


@dataclass(frozen=True, slots=True)
class Services:
    """The store, the clock, and all that the executions of one worker share."""

    store: Store
    clock: Clock
    resources: Resources
    activity_slots: asyncio.Semaphore
    stopping: asyncio.Event
    """Set when no further step may begin."""
    deltas: Deltas | None = None
    witness: Witness = NOBODY
