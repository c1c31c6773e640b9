"""The steps that workflow code in this process waits for, so that the activity for a step finds it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import NamedTuple

from outlast.core.json import canonical
from outlast.core.records import StepKind
from outlast.ports.durability.steps import Step


class Place(NamedTuple):
    """The place of a step: its execution, the run in it, and the activity id."""

    execution_id: str
    run_id: str
    activity_id: str


def activity_id_of(step: Step) -> str:
    """Return the step's key, followed by its name and a hash of its arguments if workflow code gave these.

    Temporal compares ids when it replays. So it notices code that calls the same activity with other
    arguments than before, like every other backend, and its message names the activity.
    """
    if step.kind is not StepKind.ACTIVITY or step.arguments is None:
        return step.key
    return f"{step.key}#{step.name}#{sha256(canonical(step.arguments).encode()).hexdigest()[:8]}"


_CODES_OWN = re.compile(r"[^:/#]*:[0-9]+(?=#)")
"""The key of a call of workflow code, with what follows; the key of a step of a run goes on with a slash."""


def name_in(activity_id: str) -> str | None:
    """Return the name that an activity id holds, if it holds one."""
    found = _CODES_OWN.match(activity_id)
    return None if found is None else activity_id[found.end() + 1 :].rpartition("#")[0] or None


def key_of(activity_id: str) -> str:
    """Return the key of the step that has this activity id."""
    found = _CODES_OWN.match(activity_id)
    return activity_id if found is None else found[0]


class OpenSteps:
    """Steps by place. They hold objects that no payload could carry, such as sessions and tool sources."""

    def __init__(self, *, keeps_unfinished: bool = False) -> None:
        """Keep a step while the code waits for it; if `keeps_unfinished`, also when the code is dropped."""
        self._steps: dict[Place, Step] = {}
        self._keeps_unfinished = keeps_unfinished
        self._watched: dict[Place, list[Callable[[], object]]] = {}

    @contextmanager
    def open(self, place: Place, step: Step) -> Iterator[None]:
        """Let `find` return the step during the block."""
        self.keep(place, step)
        try:
            yield
        except BaseException:
            if not self._keeps_unfinished:
                self.drop(place)
            raise
        self.drop(place)

    def keep(self, place: Place, step: Step) -> None:
        """Let `find` return the step from now on."""
        self._steps[place] = step

    def drop(self, place: Place) -> None:
        """Forget the step."""
        self._steps.pop(place, None)

    def find(self, place: Place) -> Step | None:
        """Return the step, if code in this process waits for it."""
        return self._steps.get(place)

    def give_up(self, place: Place) -> None:
        """Notify the watchers that the code no longer waits for the step. Call it from any thread."""
        for given_up in tuple(self._watched.get(place, ())):
            given_up()

    @contextmanager
    def watched(self, place: Place, given_up: Callable[[], object]) -> Iterator[None]:
        """Call `given_up`, in any thread, when the step is given up during the block."""
        # There are several if Temporal gave up an attempt that goes on here, and began another.
        watching = self._watched.setdefault(place, [])
        watching.append(given_up)
        try:
            yield
        finally:
            watching.remove(given_up)
            if not watching and self._watched.get(place) is watching:
                del self._watched[place]
