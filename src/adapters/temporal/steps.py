"""The steps that workflow code in this process waits for, where the activity that performs one finds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from durable_agents.ports.durability import Step


class OpenSteps:
    """Steps by execution and key. A session or a tool source stands in them, which no payload could carry."""

    def __init__(self, *, forgetting: bool = True) -> None:
        """Keep steps for as long as the code waits for them; for ever if not `forgetting`."""
        self._steps: dict[tuple[str, str, str], Step] = {}
        self._forgetting = forgetting

    @contextmanager
    def open(self, execution_id: str, run_id: str, step: Step) -> Iterator[None]:
        """Let `find` find the step for the time of the block."""
        place = (execution_id, run_id, step.key)
        self._steps[place] = step
        try:
            yield
        finally:
            if self._forgetting:
                self._steps.pop(place, None)

    def find(self, execution_id: str, run_id: str, key: str) -> Step | None:
        """Return the step, if code in this process waits for it."""
        return self._steps.get((execution_id, run_id, key))
