"""The commands for a Temporal service."""

from __future__ import annotations

import asyncio

import typer

from outlast.adapters.temporal import TemporalBackend
from outlast.adapters.temporal.search_attributes import TAGS, register
from outlast.cli.opening import opened, place_of
from outlast.cli.options import BackendOption
from outlast.core.errors import ConfigurationError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The namespace of a Temporal service.",
)


@app.callback()
def _commands() -> None:
    """Keep `setup` a command of its own: typer would run the only one of a group without its name."""


@app.command()
def setup(backend: BackendOption = None) -> None:
    """Register the search attribute that tags need, once for each namespace.

    It needs the permission to administer the namespace. To run it again changes nothing. On Temporal Cloud,
    add the attribute OutlastTags there, of type KeywordList.
    """

    async def registered() -> bool:
        async with opened(backend) as place:
            if not isinstance(place, TemporalBackend):
                raise ConfigurationError(
                    f"{place_of(backend)} is not a Temporal service; give --backend temporal://HOST:PORT/NAMESPACE"
                )
            return await register(place.client)

    is_new = asyncio.run(registered())
    typer.echo(f"{TAGS.name} {'is registered' if is_new else 'was registered already'}", err=True)
