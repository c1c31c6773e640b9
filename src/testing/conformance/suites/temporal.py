"""The crash suite on a Temporal namespace, which must be empty: one made for this.

The durability suite gives each test a namespace of its own, and cuts the way to the server; it is a part of
this library's own tests, which start a server for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from outlast.testing.conformance import place_url
from outlast.testing.contracts.crash.contract import CrashContract
from outlast.testing.contracts.durability.storage import ALL, BackendCapability


@asynccontextmanager
async def temporal_url() -> AsyncIterator[str]:
    """Give the URL that is examined."""
    yield place_url("temporal://127.0.0.1:7233/conformance")


class TestTemporalCrashes(CrashContract):
    new_place = temporal_url
    capabilities = ALL - {BackendCapability.HOLDS, BackendCapability.LISTS_WORKERS}
