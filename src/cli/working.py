"""The command that runs a worker."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import Annotated

import typer

from outlast.cli.loading import workflows_in
from outlast.cli.logs import LogFormat, LogLevel, write_log
from outlast.cli.opening import place_of
from outlast.cli.options import BackendOption
from outlast.cli.supervised import Link, run
from outlast.cli.supervisor import DEFAULT_PROCESSES, Terms, supervise
from outlast.composition.backends import BACKEND_VARIABLE

app = typer.Typer(rich_markup_mode=None)


@app.command()
def worker(
    modules: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE[:NAME]", help="Modules that define workflows, or one workflow of a module."
        ),
    ],
    backend: BackendOption = None,
    lease: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="The time until another worker takes over from a lost one."),
    ] = 10.0,
    max_concurrent_executions: Annotated[
        int, typer.Option(metavar="N", help="The number of executions to carry on at a time.")
    ] = 100,
    processes: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="The number of worker processes: one that ends or hangs is replaced. With 0, this "
            "process does the work, and nobody replaces it.",
        ),
    ] = DEFAULT_PROCESSES,
    log_level: Annotated[LogLevel, typer.Option(help="The least severe lines to log.")] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat, typer.Option(help="Lines for people, or one JSON document a line.")
    ] = LogFormat.TEXT,
    supervised: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run workflows until Ctrl-C or SIGTERM.

    Then it finishes or hands over the executions under way, and ends with 0. Child processes do the work. If
    code ends or hangs its process, the executions go on in the others, or in a new one.
    """
    write_log(log_level, log_format)
    if processes and supervised is None:
        command = [
            *(sys.executable, "-m", "outlast.cli", "worker", "--lease", str(lease)),
            *("--max-concurrent-executions", str(max_concurrent_executions)),
            *("--log-level", log_level, "--log-format", log_format),
        ]
        terms = Terms(
            processes,
            lambda link: [*command, "--supervised", link, "--", *modules],
            # A URL may hold a password, and everybody can read the command lines of a machine.
            {**os.environ} if backend is None else {**os.environ, BACKEND_VARIABLE: backend},
            lease_seconds=lease,
        )
        raise typer.Exit(supervise(terms))
    link = None if supervised is None else Link.of(supervised)
    definitions = workflows_in(modules)
    names = ", ".join(definition.name for definition in definitions)
    typer.echo(f"worker {os.getpid()} runs {names} on {place_of(backend)}; Ctrl-C stops it", err=True)
    run(
        [definition.cls for definition in definitions],
        backend,
        link,
        lease=timedelta(seconds=lease),
        max_concurrent_executions=max_concurrent_executions,
    )
