"""The command that serves the inspector."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Annotated
from urllib.parse import urlsplit

import typer

from outlast.cli.loading import workflows_in
from outlast.cli.opening import opened
from outlast.cli.options import BackendOption, user_name
from outlast.composition.backends import BACKEND_VARIABLE, DEFAULT_BACKEND

app = typer.Typer(rich_markup_mode=None)

DEFAULT_PORT = 8321


@app.command()
def inspect(
    modules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODULE", help="Modules with workflows: then queries work, and edits are checked."
        ),
    ] = None,
    backend: BackendOption = None,
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="The TCP port; 0 takes a free one.")
    ] = DEFAULT_PORT,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show everything, and refuse what changes something.")
    ] = False,
) -> None:
    """Serve a page that shows executions and steers them.

    It is for a browser on this machine, until Ctrl-C. Open the URL that it prints: it holds a token, which is
    new at each start. The page needs no network.
    """
    from outlast.web import inspector
    from outlast.web.serving import serve

    workflows_in(modules or [])

    async def served() -> None:
        async with opened(backend) as place:
            page = inspector(place, read_only=read_only, title=title_of(backend), user=user_name() or "")
            await serve(page, port, lambda url: typer.echo(url))

    with suppress(KeyboardInterrupt):
        asyncio.run(served())


def title_of(backend: str | None) -> str:
    """Return the URL of a backend without what may be secret."""
    url = backend or os.environ.get(BACKEND_VARIABLE) or DEFAULT_BACKEND
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}:{'//' if '://' in url else ''}{host}{parts.path}"
