"""The commands: they read the command line, and print."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from typer.core import TyperGroup

from outlast.cli import agents, checking, control, rendering
from outlast.cli.loading import arguments_of, workflow_called, workflows_in
from outlast.cli.logs import LogFormat, LogLevel, write_log
from outlast.cli.options import BackendOption, IdArgument, JsonOption
from outlast.cli.supervised import Link, run
from outlast.cli.supervisor import DEFAULT_PROCESSES, Terms, supervise
from outlast.composition.backends import BACKEND_VARIABLE, DEFAULT_BACKEND, connect
from outlast.core.approvals import Verdict
from outlast.core.errors import OutlastError
from outlast.core.json import JSON, decode, encode
from outlast.core.records import Status
from outlast.ports.durability.backend import Backend


class _Group(TyperGroup):
    """Prints the message of an error of ours; any other error is a bug, and keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OutlastError as error:
            if ctx.params.get("debug"):
                raise
            shown = "\n".join(map(rendering.printable, str(error).split("\n")))
            typer.echo(f"error: {shown}", err=True)
            raise typer.Exit(1) from error


# Typer's own tracebacks show local variables, and those may hold a key.
app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",  # It joins the lines of a paragraph.
)
app.add_typer(agents.app, name="agents")


@app.callback()
def outlast(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error was raised.")] = False,
) -> None:
    """LLM agents that survive crashes."""


@app.command()
def demo(
    directory: Annotated[
        Path | None,
        typer.Option(help="Keep the demo's files here; by default they go to a temporary folder."),
    ] = None,
) -> None:
    """Kill a process in the middle of a multi-agent analysis, and see another one finish it.

    The demo uses Mistral's API if MISTRAL_API_KEY is set, else a stand-in for it on this machine. The exit
    code is 0 only if nothing was lost and no tool ran twice.
    """
    from outlast.cli.demo.stage import perform

    if not asyncio.run(perform(directory, rendering.console())):
        raise typer.Exit(1)


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
    """Run workflows until Ctrl-C or SIGTERM; then finish or hand over the executions under way.

    Child processes do the work. If code ends or hangs its process, the executions go on in the others, or in
    a new one.
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
    typer.echo(f"worker {os.getpid()} runs {names} on {_place(backend)}; Ctrl-C stops it", err=True)
    run(
        [definition.cls for definition in definitions],
        backend,
        link,
        lease=timedelta(seconds=lease),
        max_concurrent_executions=max_concurrent_executions,
    )


@app.command()
def start(
    workflow: Annotated[
        str, typer.Argument(metavar="WORKFLOW", help="The name of the workflow, or MODULE:NAME.")
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGS", help="Text for parameters of type str, JSON for others."),
    ] = None,
    id: Annotated[str | None, typer.Option(help="The execution's id; by default a new one.")] = None,
    backend: BackendOption = None,
    module: Annotated[str | None, typer.Option(help="The module that defines the workflow.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result, and print it as JSON.")] = False,
) -> None:
    """Start an execution, for a worker to carry on, and print its id."""
    definition = workflow_called(workflow, module)
    try:
        values = arguments_of(definition, arguments or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="ARGS") from error

    async def started() -> None:
        async with connect(backend) as opened:
            execution = await opened.start(definition.cls, *values, id=id)
            typer.echo(execution.id)
            if wait:
                typer.echo(rendering.value_json(await execution.result()))

    asyncio.run(started())


@app.command("list")
def list_executions(
    workflow: Annotated[str | None, typer.Option(help="Only executions of this workflow.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only executions with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The number of executions, from the newest on.")] = 100,
    backend: BackendOption = None,
    json: JsonOption = False,
) -> None:
    """List executions, the newest first."""

    async def listed() -> None:
        async with connect(backend) as opened:
            executions = await opened.list(workflow=workflow, status=status, limit=limit)
        if json:
            for execution in executions:
                typer.echo(rendering.execution_json(execution))
        elif executions:
            rendering.console().print(rendering.executions_table(executions))
        else:
            typer.echo("no executions", err=True)

    asyncio.run(listed())


@app.command()
def workers(backend: BackendOption = None, json: JsonOption = False) -> None:
    """List the workers that are alive, and the executions that each carries on at the moment."""

    async def listed() -> None:
        async with connect(backend) as opened:
            alive = await opened.workers()
        if json:
            for one in alive:
                typer.echo(rendering.worker_json(one))
        elif alive:
            rendering.console().print(rendering.workers_table(alive))
        else:
            typer.echo("no workers", err=True)

    asyncio.run(listed())


@app.command()
def show(
    id: IdArgument,
    backend: BackendOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the execution ends, printing events as they come.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show an execution and its events."""

    async def shown() -> None:
        async with connect(backend) as opened:
            await _show(opened, id, follow=follow, json=json)

    asyncio.run(shown())


async def _show(backend: Backend, id: str, *, follow: bool, json: bool) -> None:
    execution = await backend.get(id)
    description = await execution.describe()
    console = rendering.console()
    if json:
        typer.echo(rendering.execution_json(description))
    else:
        console.print(rendering.execution_table(description))
        console.print()
    async for event in execution.events(follow=follow):
        if json:
            typer.echo(rendering.event_json(event))
        else:
            console.print(rendering.event_line(event))


for _verb in (control.cancel, control.terminate, control.retry, control.fork, control.resume, control.export):
    app.command()(_verb)
app.command("import")(control.import_)
app.command()(checking.check)


@app.command()
def pending(
    id: IdArgument,
    backend: BackendOption = None,
    json: JsonOption = False,
) -> None:
    """List the tool calls of an execution that wait for a person's decision."""

    async def listed() -> None:
        async with connect(backend) as opened:
            waiting = await (await opened.get(id)).pending()
        if json:
            for approval in waiting:
                typer.echo(rendering.approval_json(approval))
        elif waiting:
            rendering.console().print(rendering.approvals_table(waiting))
        else:
            typer.echo("no call waits for a decision", err=True)

    asyncio.run(listed())


CallArgument = Annotated[
    str, typer.Argument(metavar="CALL", help="The call's id or key, as `pending` shows it.")
]


@app.command()
def allow(
    id: IdArgument,
    call: CallArgument,
    reason: Annotated[str | None, typer.Option(help="The reason, kept with the decision.")] = None,
    arguments: Annotated[
        str | None, typer.Option(metavar="JSON", help="Make the call with these arguments instead.")
    ] = None,
    backend: BackendOption = None,
) -> None:
    """Allow a tool call that waits for a decision."""
    try:
        edited = None if arguments is None else _object(arguments)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--arguments") from error
    asyncio.run(_decide(backend, id, call, "allow", reason, edited))


@app.command()
def deny(
    id: IdArgument,
    call: CallArgument,
    reason: Annotated[str | None, typer.Option(help="The model gets it as the result of the call.")] = None,
    backend: BackendOption = None,
) -> None:
    """Deny a tool call that waits for a decision; the model gets the reason as its result."""
    asyncio.run(_decide(backend, id, call, "deny", reason, None))


async def _decide(
    backend: str | None,
    id: str,
    call: str,
    verdict: Verdict,
    reason: str | None,
    edited_arguments: dict[str, JSON] | None,
) -> None:
    async with connect(backend) as opened:
        execution = await opened.get(id)
        known = {name: one for one in await execution.pending() for name in (one.call_id, one.key)}
        await execution.decide(call, verdict, reason, edited_arguments=edited_arguments)
    decided = known.get(call)
    what = "the call" if decided is None else f"{decided.tool} (call {decided.call_id})"
    done = "allowed" if verdict == "allow" else "denied"
    changed = "" if edited_arguments is None else f" with the arguments {encode(edited_arguments).decode()}"
    because = "" if reason is None else f": {reason}"
    typer.echo(f"{done} {what} of execution {id}{changed}{because}")


def _object(text: str) -> dict[str, JSON]:
    value = decode(text)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def _place(backend: str | None) -> str:
    """Return a backend's URL without what may be a password."""
    url = backend or os.environ.get(BACKEND_VARIABLE) or DEFAULT_BACKEND
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}").geturl()
