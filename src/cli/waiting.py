"""Waiting for an execution, and what is said meanwhile and when somebody does not want to wait any longer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer

from outlast.cli.obstacles import obstacle_of
from outlast.cli.rendering.text import printable
from outlast.core.errors import OutlastError
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution

T = TypeVar("T")

QUIET_SECONDS = 2.0
"""The time after which a command says for what it waits."""


async def waited(
    place: Backend,
    execution: Execution,
    work: Coroutine[Any, Any, T],
    what: str,
    again: str,
    *,
    silent: bool = False,
) -> T:
    """Return the outcome of `work`, which waits for an execution.

    If that takes long, say on standard error for what it waits, and why nobody carries the execution on if
    that is so; but not if `silent`. On Ctrl-C, say that the execution goes on without this command, which
    ends with 130.
    """
    shown = printable(execution.id)
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=QUIET_SECONDS)
        if not (task.done() or silent):
            obstacle = await _obstacle(place, execution)
            typer.echo(
                f"waiting for {what} of execution {shown}{obstacle}; Ctrl-C ends the wait alone", err=True
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


async def _obstacle(place: Backend, execution: Execution) -> str:
    try:
        obstacle = await obstacle_of(place, await execution.describe())
    except OutlastError:  # Whoever waits goes on without it; if it lasts, the wait itself says so.
        return ""
    return f" ({printable(obstacle)})" if obstacle else ""
