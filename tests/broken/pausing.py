"""Backends that break the promise of a pause."""

from __future__ import annotations

from outlast.ports.journal import Delivery
from outlast.runtime.executions.execution_driver import Driver, _Pause
from outlast.runtime.executions.inbox_messages import PauseMessage, decode_message
from outlast.runtime.executions.journaled_execution import JournaledExecution
from tests.broken.broken_backend import BrokenBackend

_receive = Driver._receive
_release_paused = Driver._release_paused
_resume = JournaledExecution.resume


async def _deaf_to_pauses(self: Driver, delivery: Delivery) -> None:
    if not isinstance(decode_message(delivery.message.body), PauseMessage):
        await _receive(self, delivery)


class NeverPauses(BrokenBackend):
    """A request to pause is taken, and that is all."""

    breaks = "d24_a_pause_before_any_worker"
    replaced = ((Driver, "_receive", _deaf_to_pauses),)


async def _cuts_short(self: Driver, delivery: Delivery) -> None:
    await _receive(self, delivery)
    if isinstance(decode_message(delivery.message.body), PauseMessage):
        self.interrupt()


class InterruptsForAPause(BrokenBackend):
    """A pause cuts short what is under way."""

    breaks = "d24_a_step_under_way"
    replaced = ((Driver, "_receive", _cuts_short),)


async def _drops_messages(self: Driver, pause: _Pause) -> None:
    pause.number += 1
    await _release_paused(self, pause)


class LosesMessagesOfAPause(BrokenBackend):
    """The message after a request to pause is lost with it."""

    breaks = "d24_messages_wait"
    replaced = ((Driver, "_release_paused", _drops_messages),)


async def _only_what_is_held(self: JournaledExecution) -> bool:
    return await self._store.resume(self.id)


class PausesLater(BrokenBackend):
    """A request to pause that nobody has obeyed yet cannot be taken back."""

    breaks = "d24_a_pause_that_no_worker"
    replaced = ((JournaledExecution, "resume", _only_what_is_held),)


async def _first_what_is_held(self: JournaledExecution) -> bool:
    return await self._store.resume(self.id) or await _resume(self)


class PausesOnceForEachRequest(BrokenBackend):
    """To resume what is held leaves the other requests to pause, which are obeyed one after the other."""

    breaks = "d24_one_resume_takes_back_all"
    replaced = ((JournaledExecution, "resume", _first_what_is_held),)
