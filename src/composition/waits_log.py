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

_IN_WORDS = {WaitingKind.APPROVAL: "approval of", WaitingKind.ANSWER: "an answer to question"}


async def log_waits(execution: Execution) -> NoReturn:
    """Log once, as a warning, each call and question of the execution that waits for a person."""
    logged: set[WaitingFor] = set()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        with suppress(OutlastError):  # Whoever waits for the execution gets the error, if it lasts.
            for wait in (await execution.describe()).waiting_for:
                if wait.kind in _IN_WORDS and wait not in logged:
                    logged.add(wait)
                    logger.warning(
                        "execution %r waits for %s %s (%s); `outlast pending %s` shows it, and how to decide",
                        *(execution.id, _IN_WORDS[wait.kind], wait.text, wait.step, execution.id),
                    )
