"""Waiting for an execution, and what is said meanwhile and when somebody does not want to wait any longer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer

from outlast.cli.rendering.text import printable

T = TypeVar("T")

QUIET_SECONDS = 2.0
"""The time after which a command says for what it waits."""


async def waited(id: str, work: Coroutine[Any, Any, T], what: str, again: str, *, silent: bool = False) -> T:
    """Return the outcome of `work`, which waits for an execution.

    If that takes long, say on standard error for what it waits, unless `silent`. On Ctrl-C, say that the
    execution goes on without this command, which ends with 130.
    """
    shown = printable(id)
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=QUIET_SECONDS)
        if not (task.done() or silent):
            typer.echo(f"waiting for {what} of execution {shown}; Ctrl-C ends the wait alone", err=True)
        return await task
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        typer.echo(
            f"no longer waiting for {what} of execution {shown}, which goes on without this command; "
            f"to wait again: outlast {again} {shown}",
            err=True,
        )
        raise
