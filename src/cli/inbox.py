"""The commands for what waits for a person: tool calls that need approval."""

from __future__ import annotations

import asyncio
import getpass
from contextlib import suppress
from typing import Annotated

import typer

from outlast.cli.completing import completed_ids
from outlast.cli.filters import OPEN, Filters
from outlast.cli.opening import opened
from outlast.cli.options import BackendOption, IdArgument, JsonOption
from outlast.cli.rendering.documents import approval_json
from outlast.cli.rendering.text import printable
from outlast.core.approvals import PendingApproval, Verdict
from outlast.core.errors import ExecutionNotFound
from outlast.core.json import JSON, decode, encode
from outlast.ports.durability.backend import Backend

app = typer.Typer(rich_markup_mode=None)

CallArgument = Annotated[
    str, typer.Argument(metavar="CALL", help="The call's id or key, as `pending` shows it.")
]
ByOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Who decides, kept with the decision (default: your user name).",
        show_default=False,
    ),
]


@app.command()
def pending(
    id: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="The execution's id; by default all open executions.",
            autocompletion=completed_ids,
        ),
    ] = None,
    backend: BackendOption = None,
    json: JsonOption = False,
) -> None:
    """List the tool calls that wait for a person's decision."""

    async def listed() -> None:
        async with opened(backend) as place:
            if id is None:
                waiting = await _inbox(place)
            else:
                waiting = [(id, approval) for approval in await (await place.get(id)).pending()]
        if json:
            for execution, approval in waiting:
                typer.echo(approval_json(execution, approval))
        elif waiting:
            from outlast.cli.rendering import console, tables

            console.print_table(tables.approvals_table(waiting, of_one=id is not None))
        else:
            typer.echo("no call waits for a decision", err=True)

    asyncio.run(listed())


async def _inbox(place: Backend) -> list[tuple[str, PendingApproval]]:
    """Return the calls of all open executions, those of the oldest execution first."""
    waiting: list[tuple[str, PendingApproval]] = []
    for one in reversed(await Filters().found_among(place, OPEN)):
        with suppress(ExecutionNotFound):  # It was forgotten meanwhile.
            execution = await place.get(one.id)
            waiting += [(one.id, approval) for approval in await execution.pending()]
    return waiting


@app.command()
def allow(
    id: IdArgument,
    call: CallArgument,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The reason, kept with the decision.")
    ] = None,
    arguments: Annotated[
        str | None, typer.Option(metavar="JSON", help="Make the call with these arguments instead.")
    ] = None,
    by: ByOption = None,
    backend: BackendOption = None,
) -> None:
    """Allow a tool call that waits for a decision."""
    try:
        edited = None if arguments is None else _object(arguments)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--arguments") from error
    asyncio.run(_decide(backend, id, call, "allow", reason, edited, by))


@app.command()
def deny(
    id: IdArgument,
    call: CallArgument,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The model gets it as the result of the call.")
    ] = None,
    by: ByOption = None,
    backend: BackendOption = None,
) -> None:
    """Deny a tool call that waits for a decision.

    The model gets the reason as the result of the call.
    """
    asyncio.run(_decide(backend, id, call, "deny", reason, None, by))


async def _decide(
    backend: str | None,
    id: str,
    call: str,
    verdict: Verdict,
    reason: str | None,
    edited_arguments: dict[str, JSON] | None,
    by: str | None,
) -> None:
    async with opened(backend) as place:
        execution = await place.get(id)
        known = {name: one for one in await execution.pending() for name in (one.call_id, one.key)}
        await execution.decide(call, verdict, reason, edited_arguments=edited_arguments, by=by or _user())
    decided = known.get(call)
    what = "the call" if decided is None else f"{decided.tool} (call {decided.call_id})"
    done = "allowed" if verdict == "allow" else "denied"
    changed = "" if edited_arguments is None else f" with the arguments {encode(edited_arguments).decode()}"
    because = "" if reason is None else f": {reason}"
    typer.echo(printable(f"{done} {what} of execution {id}{changed}{because}"))


def _user() -> str | None:
    """Return the name of the user, where there is one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no name for this user id
        return None


def _object(text: str) -> dict[str, JSON]:
    value = decode(text)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value
