"""Events that Temporal's SDK hands over before a workflow task brings them.

To a worker that does not have an execution in its cache, a query comes with the whole history. The core of
the SDK (1.35) applies all of it, so the workflow gets what has come since the last workflow task, although
the next one has not begun. That task then brings only what comes after, such as an update, and every replay
gets both together. The commands of the first run would be in an order that no replay gives, and the execution
would be stuck. The workflow would also see the time of the last task, at which its timer is not yet due.

So these jobs are kept from the workflow. The query is answered as of the last workflow task, which is right:
Temporal hands over a query in this way only if nothing had come when it was sent. The core believes that the
workflow has the jobs, and would not bring them again. Therefore it is asked to drop the execution from its
cache, and the next workflow task makes it again from its history.

Activations do not say which event they end with. But the time and the size of the history are set when a
workflow task starts, so an activation that has more events and the same of both comes without one. An
activation that brings nothing but the outcome of a local activity has no more events than the one before.

If the history that comes with a query ends with a workflow task that another worker has begun, there is no
such sign. Then the code does get the jobs. But if the first jobs that an execution gets after its replay are
followed by a query that came alone, the core is asked to drop it too, with all commands that it has made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from temporalio.bridge.proto.workflow_activation import WorkflowActivation

ALONE: Final = "legacy_query"
"""The id that the core gives a query that did not come with a workflow task."""


class EarlyJobs:
    """Keeps from one workflow in a worker's cache what no workflow task has brought."""

    def __init__(self, drop: Callable[[], object]) -> None:
        """Call `drop`, in any thread, when the execution must be dropped from the cache."""
        self._drop = drop
        self._kept: list[WorkflowActivation] = []
        self._started: tuple[int, int] | None = None
        """The time and the size of the history that the last activation had."""
        self._length = 0
        self._was_replayed = False
        self._was_live = False
        self._is_in_doubt = False
        """True after the first jobs that come after a replay."""

    def sift(self, activation: WorkflowActivation) -> None:
        """Take from an activation the jobs that come too early, and give it those that were kept before."""
        jobs = activation.jobs
        started = (activation.timestamp.ToNanoseconds(), activation.history_size_bytes)
        is_longer, self._length = activation.history_length > self._length, activation.history_length
        is_same_task, self._started = started == self._started, started
        if all(job.HasField("query_workflow") or job.HasField("remove_from_cache") for job in jobs):
            if self._is_in_doubt and any(job.query_workflow.query_id == ALONE for job in jobs):
                self._drop()
            self._is_in_doubt = False
            return
        is_live = not activation.is_replaying
        self._is_in_doubt = is_live and self._was_replayed and not self._was_live
        self._was_replayed |= not is_live
        self._was_live |= is_live
        if is_live and is_same_task and is_longer and activation.history_size_bytes:
            self._kept.append(WorkflowActivation(jobs=jobs))
            activation.ClearField("jobs")
            self._drop()
        elif self._kept:
            brought = WorkflowActivation(jobs=jobs)
            activation.ClearField("jobs")
            for part in (*self._kept, brought):
                activation.jobs.extend(part.jobs)
            self._kept = []
