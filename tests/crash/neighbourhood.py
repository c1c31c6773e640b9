"""The workflows that `outlast worker tests.crash.neighbourhood` runs: the good one, and all bad ones."""

from __future__ import annotations

from outlast.adapters.redis.clock import ServerClock
from outlast.runtime.attempts.system_clock import SystemClock
from tests.crash.bad_neighbours import BadNeighbour as BadNeighbour
from tests.crash.program import Brief as Brief
from tests.crash.program import remember_looks_at_the_clock

remember_looks_at_the_clock(SystemClock)
remember_looks_at_the_clock(ServerClock)
