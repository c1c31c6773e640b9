"""Replaying an export: a run that was recorded, as a test of today's code.

Replay reads results from the journal and does nothing outside. So it needs no model, no network and no
worker, and takes no time. What it finds is a departure: code that would not carry the execution on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from outlast.composition.durable_run import DurableRun, carried_by
from outlast.core.errors import DefinitionError
from outlast.ports.durability.workflow_context import WorkflowInfo
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.definitions.known_workflows import definition_of
from outlast.runtime.executions.live_execution import LiveExecution
from outlast.testing.overriding import without_checks
from outlast.testing.recordings import Exported, Recording, export_in, recording_of


def replay(exported: Exported, /, *, agent: Agent[Any, Any] | None = None) -> Recording:
    """Replay an export against the code of this process, and return what the export says that happened.

    No step begins, no model is asked, and nothing is written. `exported` is the path of a file that
    `outlast export` has written, or the lines of `await execution.export()`. The export of a run outside any
    workflow, `Runner.run(agent, ..., id=...)`, needs the `agent`; its session is that of `override`, else a
    `RemoteSession`.

    Raises:
        NonDeterminismError: the code departs from the journal; the message has the record and the
            differences.
        BusyWorkflow: the code does not come to rest.
        DefinitionError: this process does not define the workflow, or `agent` is missing.
        CannotRerun: it is not an export.
    """
    export = export_in(exported)
    definition = definition_of(export.header.workflow)
    info = WorkflowInfo(export.header.id, definition.name, export.header.task_queue)
    with carried(definition.cls, export.header.id, agent), without_checks():
        live = LiveExecution(definition, info, export.records, limit_bytes=sys.maxsize)
        try:
            while not live.go_on():
                pass
        finally:
            live.close()
    return recording_of(export)


@contextmanager
def carried(workflow: type[Any], execution_id: str, agent: Agent[Any, Any] | None) -> Iterator[None]:
    """Let an execution of that workflow run in the block with this agent, if the workflow needs one.

    Raises:
        DefinitionError: it needs one and there is none, or the other way round.
    """
    if workflow is not DurableRun:
        if agent is not None:
            raise DefinitionError(
                f"execution {execution_id!r} has a workflow with agents of its own; leave out `agent`"
            )
        yield
        return
    if agent is None:
        raise DefinitionError(
            f"execution {execution_id!r} is a run outside any workflow, whose journal does not hold the "
            "agent; give it as `agent=...`"
        )
    from outlast.adapters.mistral import RemoteSession

    with carried_by(agent, RemoteSession(), None, id=execution_id):
        yield
