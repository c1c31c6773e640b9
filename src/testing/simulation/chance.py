"""Keeping real time and real chance out of a simulation, wherever the library asks for them.

The library reads its clock and its random numbers in a few places that are not ports: identities that nobody
gave, the spread of a back-off, and how long code has run in real time before others get their turn. For the
time of a simulation these come from the seed and from the simulated time. The garbage collector waits as
well: it would finish abandoned generators at a moment that depends on all that ran before.
"""

from __future__ import annotations

import gc
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch


@contextmanager
def nothing_by_chance(seed: int, now: Callable[[], float]) -> Iterator[random.Random]:
    """Let nothing come from real time or real chance during the block; yield numbers made from the seed."""
    drawn = random.Random(seed)

    def uuid4() -> uuid.UUID:
        return uuid.UUID(int=drawn.getrandbits(128), version=4)

    state = random.getstate()
    random.seed(seed)
    collects = gc.isenabled()
    gc.disable()
    with ExitStack() as patches:
        patches.enter_context(patch.object(uuid, "uuid4", uuid4))
        patches.enter_context(patch.object(time, "monotonic", now))
        patches.enter_context(patch.object(time, "thread_time", now))
        try:
            yield drawn
        finally:
            random.setstate(state)
            if collects:
                gc.enable()
