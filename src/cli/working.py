"""The command that runs a worker."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from datetime import timedelta
from typing import Annotated

import typer

from outlast.cli.health import Address, OwnPulse, served
from outlast.cli.loading import workflows_in
from outlast.cli.logs import LogFormat, LogLevel, write_log
from outlast.cli.opening import place_of
from outlast.cli.options import BackendOption
from outlast.cli.supervised import Link, run
from outlast.cli.supervisor import DEFAULT_PROCESSES, WAITING_SECONDS_MIN, Terms, supervise
from outlast.composition.backends import BACKEND_VARIABLE

logger = logging.getLogger("outlast.worker")

CLOSING_SECONDS = 10.0
"""The time that a worker has, after `--stop-timeout`, to hand over and to close."""

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
    stop_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="The time to finish what is under way after a request to stop. Give a service manager that "
            "kills what does not stop 15 s more than this.",
        ),
    ] = 30.0,
    health_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=0,
            max=65535,
            help="Serve /livez and /readyz over HTTP on this port.",
            show_default=False,
        ),
    ] = None,
    health_host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to serve them on; 0.0.0.0 is all of them.")
    ] = "127.0.0.1",
    log_level: Annotated[LogLevel, typer.Option(help="The least severe lines to log.")] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat, typer.Option(help="Lines for people, or one JSON document a line.")
    ] = LogFormat.TEXT,
    supervised: Annotated[str | None, typer.Option(hidden=True)] = None,
    reports_store: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run workflows until Ctrl-C or SIGTERM.

    Then it finishes or hands over the executions under way, and ends with 0. Child processes do the work. If
    code ends or hangs its process, the executions go on in the others, or in a new one.
    """
    write_log(log_level, log_format)
    address = None if health_port is None else Address(health_port, health_host)
    if processes and supervised is None:
        command = [
            *(sys.executable, "-m", "outlast.cli", "worker", "--lease", str(lease)),
            *("--max-concurrent-executions", str(max_concurrent_executions)),
            *("--stop-timeout", str(stop_timeout)),
            *("--log-level", log_level, "--log-format", log_format),
            *(["--reports-store"] if address is not None else []),
        ]
        terms = Terms(
            processes,
            lambda link: [*command, "--supervised", link, "--", *modules],
            # A URL may hold a password, and everybody can read the command lines of a machine.
            {**os.environ} if backend is None else {**os.environ, BACKEND_VARIABLE: backend},
            lease_seconds=lease,
            stop_seconds=stop_timeout + CLOSING_SECONDS,
            health=address,
        )
        raise typer.Exit(supervise(terms))
    link = None if supervised is None else Link.of(supervised)
    definitions = workflows_in(modules)
    names = ", ".join(definition.name for definition in definitions)
    typer.echo(f"worker {os.getpid()} runs {names} on {place_of(backend)}; Ctrl-C stops it", err=True)
    with ExitStack() as stack:
        pulse = None
        if address is not None:
            pulse = OwnPulse(os.getpid(), max(1.5 * lease, WAITING_SECONDS_MIN))
            port = stack.enter_context(served(address, pulse.health))
            logger.info("health is served on %s port %d", address.host, port)
        run(
            [definition.cls for definition in definitions],
            backend,
            link,
            pulse=pulse,
            reports_store=reports_store,
            stop_seconds=stop_timeout,
            lease=timedelta(seconds=lease),
            max_concurrent_executions=max_concurrent_executions,
        )
