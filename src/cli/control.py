"""The commands that end executions, hold them, open them again, tag them, and forget them."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from outlast.cli.ages import age_of
from outlast.cli.asking import agreed
from outlast.cli.filters import OPEN, bundled, tags_of
from outlast.cli.opening import opened, place_of
from outlast.cli.options import AgainOption, BackendOption, YesOption
from outlast.cli.selecting import ENDED_EARLY, PAUSED, RUNNING, Selection, Verb, to_each
from outlast.ports.durability.execution import Execution

app = typer.Typer(rich_markup_mode=None)

_selects = bundled(Selection, "selection")


@app.command()
@_selects
def cancel(selection: Selection, backend: BackendOption = None) -> None:
    """Ask executions to end; their code can clean up first.

    Exits with 1 if one had ended already.
    """

    async def cancelled(execution: Execution) -> str:
        await execution.cancel()
        return "is asked to end"

    to_each(selection, backend, Verb("cancel", "cancelled", OPEN), cancelled)


@app.command()
@_selects
def terminate(
    selection: Selection,
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

    to_each(selection, backend, Verb("terminate", "terminated", OPEN), terminated)


@app.command()
@_selects
def pause(
    selection: Selection,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Kept with the execution.")] = None,
    backend: BackendOption = None,
) -> None:
    """Let executions stand still until somebody resumes them.

    They begin no step, and messages wait. What is under way goes on to its end. Exits with 1 if one had ended
    already.
    """

    async def paused(execution: Execution) -> str:
        return "is asked to pause" if await execution.pause(reason) else "is paused already"

    to_each(selection, backend, Verb("pause", "paused", RUNNING), paused)


@app.command()
@_selects
def resume(selection: Selection, backend: BackendOption = None) -> None:
    """Let executions go on that are paused or held.

    `outlast show ID` says why an execution is held; mend that first. Exits with 1 if one of them could not be
    resumed.
    """

    async def resumed(execution: Execution) -> str:
        return "is resumed" if await execution.resume() else "was not paused, and goes on as before"

    to_each(selection, backend, Verb("resume", "resumed", PAUSED), resumed)


@app.command()
@_selects
def retry(selection: Selection, again: AgainOption = False, backend: BackendOption = None) -> None:
    """Open executions again that failed, were cancelled or terminated.

    They go on with today's code. A failed step is tried anew, and no completed step runs again. Exits with 1
    if one could not be retried.
    """

    async def retried(execution: Execution) -> str:
        await execution.retry(again=again)
        return "is open again"

    to_each(selection, backend, Verb("retry", "retried", ENDED_EARLY), retried)


@app.command()
@_selects
def tag(
    selection: Selection,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Add or replace this tag; can be given again."),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="NAME", help="Remove the tag of this name; can be given again."),
    ] = None,
    backend: BackendOption = None,
) -> None:
    """Add, replace and remove tags of executions.

    By tags they are found: `outlast list --tag NAME=VALUE`. Exits with 1 if one could not be tagged.
    """
    tags = tags_of("--set", set_)
    if clash := tags.keys() & {*(remove or ())}:
        raise typer.BadParameter(f"tag {min(clash)!r} is set and removed")
    changes: dict[str, str | None] = {**tags, **dict.fromkeys(remove or ())}
    if not changes:
        raise typer.BadParameter("give --set NAME=VALUE or --remove NAME")

    async def tagged(execution: Execution) -> str:
        await execution.tag(changes)
        return "is tagged"

    to_each(selection, backend, Verb("tag", "given these tags"), tagged)


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
    age = age_of(older_than)
    if age is None:
        raise typer.BadParameter(
            f"{older_than!r} is not a time: write a number and s, m, h, d or w, such as 30d",
            param_hint="--older-than",
        )

    async def pruned() -> int:
        async with opened(backend) as place:
            return await place.prune(age)

    question = (
        f"Forget every execution on {place_of(backend)} that ended more than {older_than} ago, for good?"
    )
    if not agreed(question, yes=yes):
        raise typer.Exit(1)
    count = asyncio.run(pruned())
    typer.echo(f"{count} execution{' is' if count == 1 else 's are'} forgotten")
