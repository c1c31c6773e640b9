"""The commands for the remote agents that `RemoteSession` has made in an account."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from outlast.adapters.mistral import RemoteSession
from outlast.adapters.mistral.housekeeping import OwnAgent, open_account
from outlast.cli.asking import agreed
from outlast.cli.options import JsonOption, YesOption
from outlast.cli.rendering.console import print_table, table_with
from outlast.cli.rendering.documents import value_json
from outlast.cli.rendering.text import local_time, printable, shortened

PATIENCE = timedelta(hours=1)
"""An account may have very many conversations to look at."""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Remote agents that this library has made (key: MISTRAL_API_KEY).",
)

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--server-url",
        metavar="URL",
        help="The API (default: MISTRAL_SERVER_URL, else Mistral's own).",
        show_default=False,
    ),
]
DaysOption = Annotated[
    float,
    typer.Option("--unused-for", metavar="DAYS", min=0, help="Agents unused for this long are not needed."),
]


@app.command("list")
def list_agents(
    server_url: UrlOption = None,
    unused_for: DaysOption = 30.0,
    json: JsonOption = False,
) -> None:
    """List our remote agents, and whether they are needed."""

    async def listed() -> None:
        async with open_account(RemoteSession(server_url=server_url, timeout=PATIENCE)) as account:
            agents = await account.agents(_ago(unused_for))
        if json:
            for agent in agents:
                typer.echo(value_json(asdict(agent)))
        elif agents:
            print_table(_table(agents))
        else:
            typer.echo("no agents of ours", err=True)

    asyncio.run(listed())


@app.command()
def gc(
    server_url: UrlOption = None,
    unused_for: DaysOption = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    yes: YesOption = False,
) -> None:
    """Remove our remote agents that are no longer needed, and nothing else."""

    async def collected() -> None:
        async with open_account(RemoteSession(server_url=server_url, timeout=PATIENCE)) as account:
            agents = await account.agents(_ago(unused_for))
            removable = [agent for agent in agents if not agent.is_needed]
            if not removable:
                typer.echo(f"nothing to remove: {len(agents)} agents of ours are needed", err=True)
                return
            if dry_run or not yes:
                print_table(_table(removable))
            if dry_run or not agreed(_question(removable), yes=yes):
                return
            for agent in removable:
                await account.remove(agent)
                typer.echo(agent.id)

    asyncio.run(collected())


def _question(agents: list[OwnAgent]) -> str:
    return f"Remove {'these' if len(agents) > 1 else 'this'} {len(agents)} for good?"


def _ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def _table(agents: Sequence[OwnAgent]) -> Table:
    """Return remote agents as a table, a row each."""
    table = table_with(
        "id", "name", "model", "versions", "made", "last used", "needed", numbers=("versions",)
    )
    for agent in agents:
        made, used = local_time(agent.created_at), local_time(agent.last_used_at)
        needed = "yes" if agent.is_needed else "no"
        cells = (agent.id, shortened(agent.name, 40), agent.model, str(agent.versions), made, used, needed)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table
