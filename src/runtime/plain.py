"""Running an agent in a plain script: the same steps, performed at once, with retries but no journal."""

from __future__ import annotations

import logging
import sys
import uuid
from datetime import UTC, datetime

from durable_agents.core.approvals import Decision
from durable_agents.core.errors import NotSupported
from durable_agents.core.failure import failure_of, step_error
from durable_agents.core.json import JSON
from durable_agents.ports.clock import Clock
from durable_agents.ports.durability import Attempt, Step, StepContext
from durable_agents.ports.resources import Resources
from durable_agents.runtime.attempts import Pulse, perform_in_time

NO_APPROVALS = (
    "a tool of this run requires approval, for which a run in a plain script cannot wait: "
    "run it in a workflow, or give it an id and a backend"
)

logger = logging.getLogger("durable_agents.runner")


class PlainContext(StepContext):
    """What a run asks for outside any workflow: nothing is recorded, and a crash loses everything."""

    def __init__(self, resources: Resources, clock: Clock) -> None:
        self._id = uuid.uuid4().hex
        self._resources = resources
        self._clock = clock
        self._keys = 0

    async def run_step(self, step: Step) -> JSON:
        attempt_number = 1
        while True:
            pulse = Pulse()
            attempt = Attempt(self._id, step.name, attempt_number, f"{self._id}/{step.key}", pulse.beat)
            try:
                return await perform_in_time(
                    step.call, attempt, step.options, self._resources, self._clock, pulse
                )
            except Exception as error:
                failure = failure_of(error, sys.maxsize)
                delay = step.options.retry.delay_after(attempt_number, failure)
                if delay is None:
                    raise step_error(failure, step.name, attempt_number) from error
                logger.warning("%s: %s; trying again in %.1f s", step.name, failure.message, delay)
            await self._clock.sleep(delay)
            attempt_number += 1

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def next_key(self) -> str:
        self._keys += 1
        return f":{self._keys}"

    async def decision(self, key: str, fingerprint: str) -> Decision:
        """Refuse: what nobody can find, nobody can decide.

        Raises:
            NotSupported: always.
        """
        raise NotSupported(NO_APPROVALS)

    def emit(self, kind: str, data: dict[str, JSON]) -> None:
        logger.debug("%s %s", kind, data)
