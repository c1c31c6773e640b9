"""How xdist's workers get the tests: scope by scope, and to the end of the run though some of them die.

xdist 3.8 hands a dead worker's scopes on with the tests that have run, and with the one that it died of. So
the next worker dies as well, and one that is given only tests that have run waits for ever, and the run too.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController


class EndingScheduling(LoadScopeScheduling):
    """Gives each scope to one worker, as xdist does, and what is left of a dead worker's scopes to others."""

    def remove_node(self, node: WorkerController) -> str | None:
        """Take a worker out, and return the test that it died of, which is not run again."""
        workload = self.assigned_work.pop(node)
        left = [
            (scope, test) for scope, tests in workload.items() for test, done in tests.items() if not done
        ]
        if not left:
            return None
        (scope, deadly), *_ = left
        workload[scope][deadly] = True
        self.workqueue.update({scope: tests for scope, tests in workload.items() if not all(tests.values())})
        for other in self.nodes:
            self._reschedule(other)
        return deadly

    def _reschedule(self, node: WorkerController) -> None:
        """Give a worker so many tests that it goes on: it begins none before it knows the next, or the end.

        One that takes the place of a dead worker gets none before it has collected the tests.
        """
        while node in self.registered_collections and not node.shutting_down:
            super()._reschedule(node)
            if self._pending_of(self.assigned_work[node]) > 2:
                break
