"""Long work in small portions, so that everything else on the event loop goes on.

Tasks of the same loop renew the leases. Work whose length depends on a user's code, a journal or an inbox
must not delay them.
"""

from __future__ import annotations

import asyncio
import time

PORTION_SECONDS = 0.005
"""The time for which a portion of work runs before other tasks get their turn."""


class Pace:
    """Decides, inside a loop, when it is time to let other tasks run:

    for record in records:
        read(record)
        if pace.is_due():
            await pace.pause()
    """

    def __init__(self) -> None:
        self._due_at = time.monotonic() + PORTION_SECONDS

    def is_due(self) -> bool:
        return time.monotonic() >= self._due_at

    async def pause(self) -> None:
        """Let everything else that is ready run once."""
        await asyncio.sleep(0)
        self._due_at = time.monotonic() + PORTION_SECONDS
