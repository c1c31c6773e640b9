"""The runs of one execution that are at work, and the updates by which a person steers them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from outlast.core.errors import NoRunAtWork
from outlast.core.steering import INTERRUPT_UPDATE, SAY_UPDATE
from outlast.ports.definitions import HandlerDefinition
from outlast.ports.durability.steps import Steered
from outlast.runtime.definitions.signature import CallableSignature


class RunsAtWork:
    """The runs, by key. Its methods are the handlers and the validators of the updates that steer them."""

    def __init__(self, execution_id: str) -> None:
        self._execution_id = execution_id
        self._runs: dict[str, Steered] = {}

    @contextmanager
    def at_work(self, key: str, run: Steered) -> Iterator[None]:
        """Let the run be steered during the block."""
        self._runs[key] = run
        try:
            yield
        finally:
            del self._runs[key]

    def check_say(self, text: str, run: str | None = None, by: str | None = None) -> None:
        """Refuse a message for which no run is at work; raises `NoRunAtWork`."""
        self._chosen(run)

    def say(self, text: str, run: str | None = None, by: str | None = None) -> None:
        """Say something to a run; raises `NoRunAtWork`."""
        self._chosen(run).say(text, by)

    def check_interrupt(
        self, reason: str | None = None, run: str | None = None, by: str | None = None
    ) -> None:
        """Refuse to interrupt if no run is at work; raises `NoRunAtWork`."""
        self._chosen(run)

    def interrupt(self, reason: str | None = None, run: str | None = None, by: str | None = None) -> None:
        """Interrupt a run; raises `NoRunAtWork`."""
        self._chosen(run).interrupt(reason, by)

    def _chosen(self, run: str | None) -> Steered:
        """Return the run that is meant: the one with that key, or the only one."""
        at_work = {key: one for key, one in self._runs.items() if one.takes_steering}
        found = [one for key, one in at_work.items() if run in (None, key)]
        if len(found) != 1:
            checking = [key for key, one in self._runs.items() if one.is_checking_input]
            raise NoRunAtWork(self._execution_id, run, [*at_work], checking)
        return found[0]


_SIGNED = RunsAtWork("")
SAY_HANDLER = HandlerDefinition(SAY_UPDATE, "say", CallableSignature.of(_SIGNED.say), validator="check_say")
INTERRUPT_HANDLER = HandlerDefinition(
    INTERRUPT_UPDATE, "interrupt", CallableSignature.of(_SIGNED.interrupt), validator="check_interrupt"
)
