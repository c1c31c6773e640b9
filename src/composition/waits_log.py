"""Logs in a script that its execution waits for a person: nothing else would show it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import NoReturn

from outlast.core.errors import OutlastError
from outlast.core.waiting import WaitingFor, WaitingKind
from outlast.ports.durability.execution import Execution

logger = logging.getLogger("outlast.execution")

LOOK_SECONDS = 3.0
"""The time between two looks at an execution."""

_FOR_PEOPLE = frozenset({WaitingKind.APPROVAL, WaitingKind.ANSWER})


async def log_waits(execution: Execution) -> NoReturn:
    """Log once, as a warning, each call and question of the execution that waits for a person.

    The text of a question may be a model's, so it is not in the log.
    """
    logged: set[WaitingFor] = set()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        with suppress(OutlastError):  # Whoever waits for the execution gets the error, if it lasts.
            for wait in (await execution.describe()).waiting_for:
                if wait.kind in _FOR_PEOPLE and wait not in logged:
                    logged.add(wait)
                    what = "an answer" if wait.kind is WaitingKind.ANSWER else f"approval of {wait.text}"
                    logger.warning(
                        "execution %r waits for %s (%s); `outlast pending %s` shows it, and how to decide",
                        *(execution.id, what, wait.step, execution.id),
                    )
