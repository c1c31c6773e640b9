"""The commands that end executions, hold them, open them again, and forget them."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Annotated

import typer

from outlast.cli.asking import agreed
from outlast.cli.opening import opened, place
from outlast.cli.options import AgainOption, BackendOption, IdsArgument, YesOption
from outlast.cli.selecting import to_each
from outlast.ports.durability.execution import Execution

app = typer.Typer(rich_markup_mode=None)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@app.command()
def cancel(ids: IdsArgument, backend: BackendOption = None) -> None:
    """Ask executions to end; their code can clean up first.

    Exits with 1 if one had ended already.
    """

    async def cancelled(execution: Execution) -> str:
        await execution.cancel()
        return "is asked to end"

    to_each(ids, backend, cancelled)


@app.command()
def terminate(
    ids: IdsArgument,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Kept with the execution.")
    ] = "from the command line",
    backend: BackendOption = None,
) -> None:
    """End executions at once, without any clean-up.

    Exits with 1 if one had ended already.
    """

    async def terminated(execution: Execution) -> str:
        await execution.terminate(reason)
        return "is terminated"

    to_each(ids, backend, terminated)


@app.command()
def resume(ids: IdsArgument, backend: BackendOption = None) -> None:
    """Let workers take executions that are held.

    Mend first what ended their workers: `outlast show ID` says why an execution is held. Exits with 1 if one
    of them could not be resumed.
    """

    async def resumed(execution: Execution) -> str:
        return "is resumed" if await execution.resume() else "was not held, and goes on as before"

    to_each(ids, backend, resumed)


@app.command()
def retry(ids: IdsArgument, again: AgainOption = False, backend: BackendOption = None) -> None:
    """Open executions again that failed, were cancelled or terminated.

    They go on with today's code. A failed step is tried anew, and no completed step runs again. Exits with 1
    if one could not be retried.
    """

    async def retried(execution: Execution) -> str:
        await execution.retry(again=again)
        return "is open again"

    to_each(ids, backend, retried)


@app.command()
def prune(
    older_than: Annotated[
        str,
        typer.Option(metavar="TIME", help="The time since their end, such as 30d, 12h, 90m or 2w."),
    ],
    yes: YesOption = False,
    backend: BackendOption = None,
) -> None:
    """Forget executions that ended long ago.

    Their journals are deleted, for good. Running executions are kept.
    """
    age = _age(older_than)

    async def pruned() -> int:
        async with opened(backend) as opened_place:
            return await opened_place.prune(age)

    question = f"Forget every execution on {place(backend)} that ended more than {older_than} ago, for good?"
    if not agreed(question, yes=yes):
        raise typer.Exit(1)
    typer.echo(f"{asyncio.run(pruned())} executions are forgotten")


def _age(text: str) -> timedelta:
    matched = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)\s*([smhdw])", text.strip())
    if matched is None:
        raise typer.BadParameter(
            f"{text!r} is not a time: write a number and s, m, h, d or w, such as 30d",
            param_hint="--older-than",
        )
    return timedelta(**{_UNITS[matched[2]]: float(matched[1])})
