"""The log of a worker whose code departs from histories: the difference, field by field, once for each."""

from __future__ import annotations

import asyncio
import logging

from temporalio.client import Client

from outlast.adapters.temporal.obstacles import departure_of
from outlast.adapters.temporal.refusals import translated
from outlast.adapters.temporal.workflows import Host
from outlast.core.errors import OutlastError

logger = logging.getLogger("outlast.worker")


class DepartureLog:
    """Finds out where code departed, and logs it; Temporal's own message has names and ids only."""

    def __init__(self, client: Client, host: Host) -> None:
        self._client = client
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._looking: set[asyncio.Task[None]] = set()
        self._logged: dict[str, str] = {}

    def log_soon(self, execution_id: str, run_id: str) -> None:
        """Log the difference soon; called in any thread."""
        self._loop.call_soon_threadsafe(self._begin, execution_id, run_id)

    async def close(self) -> None:
        """Stop looking for differences."""
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)

    def _begin(self, execution_id: str, run_id: str) -> None:
        task = asyncio.create_task(self._log(execution_id, run_id))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _log(self, execution_id: str, run_id: str) -> None:
        converter, definitions = self._client.data_converter, self._host.definitions
        try:
            with translated(execution_id):
                handle = self._client.get_workflow_handle(execution_id, run_id=run_id)
                history = await handle.fetch_history()
            started = history.events[0].workflow_execution_started_event_attributes
            definition = definitions[started.workflow_type.name]
            found = await departure_of(
                execution_id, history.events, converter, self._host.toolkit.live_code, definition
            )
        except OutlastError as error:
            found, problem = None, str(error)
        else:
            problem = "run over its history again, the code does not depart: it changes by itself"
        message = f"{problem}; see its workflow task" if found is None else str(found)
        if self._logged.get(run_id) != message:
            self._logged[run_id] = message
            logger.error("execution %s cannot go on: %s", execution_id, message)
