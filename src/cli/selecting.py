"""Choosing the executions that a verb is for, by ids or by filters, and doing it to each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import typer

from outlast.cli.asking import agreed
from outlast.cli.completing import completed_ids
from outlast.cli.filters import ANY, Filters
from outlast.cli.opening import opened, place_of
from outlast.cli.rendering.text import printable
from outlast.core.errors import OutlastError, StorageError
from outlast.core.records import Status
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution, ExecutionDescription

RUNNING = (Status.RUNNING,)
PAUSED = (Status.PAUSED,)
ENDED_EARLY = (Status.FAILED, Status.CANCELLED, Status.TERMINATED)


@dataclass(frozen=True, slots=True)
class Selection(Filters):
    """The executions that a verb is for: ids, or a filter."""

    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID", help="The ids of executions, in place of a filter.", autocompletion=completed_ids
        ),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the executions that it would be done to.")
    ] = False
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before it is done to all found.")] = (
        False
    )

    async def chosen(self, place: Backend, verb: Verb) -> list[ExecutionDescription]:
        """Return the executions that a filter finds, as far as the verb can be done to them.

        Raises:
            UsageError: there is no filter either: a verb without any would mean all executions.
        """
        if not any(getattr(self, name) for name in Filters.names()):
            raise typer.BadParameter("give the ids of executions, or a filter such as --status")
        return await self.found_among(place, verb.among)


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that is done to executions."""

    name: str
    done: str
    """The participle."""
    among: tuple[Status, ...] = ANY
    """The statuses of the executions that it can be done to; what a filter finds beside these is left out."""
    asks: bool = True
    """True if a person is asked before it is done to what a filter finds."""


def to_each(
    selection: Selection, backend: str | None, verb: Verb, apply: Callable[[Execution], Awaitable[str | None]]
) -> None:
    """Apply a verb to each execution once, and print what it did; raise `Exit` with 1 if one refused it.

    What one execution refuses does not stop the others; a place that cannot be reached does. Before a verb is
    applied to what a filter finds, a person is asked.
    """

    async def applied() -> int:
        async with opened(backend) as place:
            ids = await _ids(place, selection, backend, verb)
            refusals = 0
            for id in ids:
                try:
                    outcome = await apply(await place.get(id))
                except StorageError:
                    raise
                except OutlastError as error:
                    typer.echo(f"error: {printable(str(error))}", err=True)
                    refusals += 1
                else:
                    if outcome is not None:
                        typer.echo(f"{printable(id)} {outcome}")
            if refusals and len(ids) > 1:
                typer.echo(f"{len(ids) - refusals} of {len(ids)} are {verb.done}", err=True)
            return refusals

    if asyncio.run(applied()):
        raise typer.Exit(1)


async def _ids(place: Backend, selection: Selection, backend: str | None, verb: Verb) -> list[str]:
    """Return the ids that a verb is to be applied to, each once; none for a dry run, which lists them."""
    if selection.ids:
        if any(getattr(selection, name) for name in Filters.names()):
            raise typer.BadParameter("give ids or a filter, not both")
        ids = list(dict.fromkeys(selection.ids))
        if not selection.dry_run:
            return ids
        found = [await (await place.get(id)).describe() for id in ids]
    else:
        found = await selection.chosen(place, verb)
        ids = [one.id for one in found]
        if not ids:
            typer.echo("no execution matches", err=True)
            return []
    count = f"{len(ids)} execution{'' if len(ids) == 1 else 's'}"
    if selection.dry_run:
        from outlast.cli.rendering import console, tables

        console.print_table(tables.executions_table(found, width=console.room()))
        typer.echo(f"{count} would be {verb.done}", err=True)
        return []
    if verb.asks and not agreed(
        f"{verb.name.capitalize()} {count} on {place_of(backend)}?", yes=selection.yes
    ):
        raise typer.Exit(1)
    return ids
