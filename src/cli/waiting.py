"""Waiting for an execution, and what is said meanwhile and when somebody does not want to wait any longer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import typer

from outlast.cli.rendering.text import printable
from outlast.cli.rendering.waits import wait_line
from outlast.core.errors import OutlastError
from outlast.ports.durability.execution import Execution

T = TypeVar("T")

QUIET_SECONDS = 2.0
"""The time after which a command says for what it waits."""


async def waited(
    execution: Execution,
    work: Coroutine[Any, Any, T],
    what: str,
    again: str,
    *,
    silent: bool = False,
) -> T:
    """Return the outcome of `work`, which waits for an execution.

    If that takes long, say on standard error for what this waits, and for what the execution waits; but not
    if `silent`. On Ctrl-C, say that the execution goes on without this command, which ends with 130.
    """
    shown = printable(execution.id)
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=QUIET_SECONDS)
        if not (task.done() or silent):
            waits = await _waits(execution)
            typer.echo(
                f"waiting for {what} of execution {shown}{waits}; Ctrl-C ends the wait alone", err=True
            )
        return await task
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        typer.echo(
            f"no longer waiting for {what} of execution {shown}, which goes on without this command; "
            f"to wait again: outlast {printable(again)}",
            err=True,
        )
        raise


async def _waits(execution: Execution) -> str:
    try:
        waits = (await execution.describe()).waiting_for
    except OutlastError:  # Whoever waits goes on without it; if it lasts, the wait itself says so.
        return ""
    return f", which waits for {wait_line(waits[0], datetime.now(UTC))}" if waits else ""
