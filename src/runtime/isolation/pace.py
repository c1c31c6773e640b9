"""Long work in small portions, so that everybody else on the event loop gets on with theirs.

Leases are renewed by tasks of the same loop. Work that a user's code, a long journal or a full inbox can make
as long as they like must not hold them up.
"""

from __future__ import annotations

import asyncio
import time

PORTION_SECONDS = 0.005
"""How long anything runs before others get their turn."""


class Pace:
    """Says, in the middle of a loop, when it is time to let others run:

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
