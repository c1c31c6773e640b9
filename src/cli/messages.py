"""The commands that talk to the handlers of an execution."""

from __future__ import annotations

import asyncio
import uuid
from typing import Annotated, Any

import typer

from outlast.cli.arguments import Callee, WrongWords, arguments_for, given
from outlast.cli.loading import known_workflow
from outlast.cli.negative_numbers import WithNumbers
from outlast.cli.opening import opened
from outlast.cli.options import (
    ArgOption,
    BackendOption,
    IdArgument,
    InputOption,
    ModuleOption,
    WordsArgument,
)
from outlast.cli.rendering.documents import value_json
from outlast.cli.rendering.text import printable
from outlast.cli.waiting import waited
from outlast.core.errors import ConfigurationError, UnknownDefinition
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution

app = typer.Typer(rich_markup_mode=None)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name of the handler.")]

UNCHECKED = (
    "; nothing has checked it, and a worker drops a signal that the workflow does not have, or whose "
    "arguments do not fit: give --module MODULE, or set OUTLAST_MODULE, and it is checked before"
)


@app.command(cls=WithNumbers)
def signal(
    id: IdArgument,
    name: NameArgument,
    arguments: WordsArgument = None,
    arg: ArgOption = None,
    input: InputOption = None,
    module: ModuleOption = None,
    backend: BackendOption = None,
) -> None:
    """Send a signal to an execution.

    It is durable when the command ends. With the module of the workflow, name and arguments are checked
    before; without it, each is sent as JSON if it is JSON, else as text, and a worker drops with a warning
    what does not fit.
    """

    async def sent() -> None:
        async with opened(backend) as place:
            execution, args, kwargs, is_checked = await _addressed(
                place, id, "signal", name, module, arguments, arg, input
            )
            await execution.signal(name, *args, **kwargs)
        unchecked = "" if is_checked else UNCHECKED
        typer.echo(f"signal {printable(name)} is sent to {printable(id)}{unchecked}", err=True)

    asyncio.run(sent())


@app.command(cls=WithNumbers)
def query(
    id: IdArgument,
    name: NameArgument,
    arguments: WordsArgument = None,
    arg: ArgOption = None,
    input: InputOption = None,
    module: ModuleOption = None,
    backend: BackendOption = None,
) -> None:
    """Print the answer of a query handler as JSON.

    The journal is replayed in this process, without side effects, so the module of the workflow is needed; on
    Temporal, a worker answers.
    """

    async def answered() -> Any:
        async with opened(backend) as place:
            execution, args, kwargs, _ = await _addressed(
                place, id, "query", name, module, arguments, arg, input
            )
            try:
                return await execution.query(name, *args, **kwargs)
            except UnknownDefinition as error:
                raise ConfigurationError(
                    f"where is workflow {error.name!r} defined? Give --module MODULE"
                ) from error

    typer.echo(value_json(asyncio.run(answered())))


@app.command(cls=WithNumbers)
def update(
    id: IdArgument,
    name: NameArgument,
    arguments: WordsArgument = None,
    arg: ArgOption = None,
    input: InputOption = None,
    update_id: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="ID", help="The id of the update: sending the same again returns the same answer."
        ),
    ] = None,
    module: ModuleOption = None,
    backend: BackendOption = None,
) -> None:
    """Send an update to an execution, and print the answer as JSON.

    It waits for a worker to accept the update, and for the handler to end.
    """

    async def answered() -> Any:
        async with opened(backend) as place:
            execution, args, kwargs, _ = await _addressed(
                place, id, "update", name, module, arguments, arg, input
            )
            sent = uuid.uuid4().hex if update_id is None else update_id
            again = f"update {id} {name} --id {sent}"
            answer = execution.update(name, *args, id=sent, **kwargs)
            return await waited(execution, answer, f"the answer to update {printable(name)}", again)

    typer.echo(value_json(asyncio.run(answered())))


async def _addressed(
    place: Backend,
    id: str,
    sort: str,
    name: str,
    module: str | None,
    words: list[str] | None,
    named: list[str] | None,
    document: str | None,
) -> tuple[Execution, list[Any], dict[str, Any], bool]:
    """Return the execution, the arguments for its handler, and whether code has checked these."""
    execution = await place.get(id)
    definition = known_workflow((await execution.describe()).workflow, module)
    try:
        handler = None if definition is None else Callee.handler(definition, sort, name)
        args, kwargs = arguments_for(handler, given(words, named, document))
    except WrongWords as error:
        raise typer.BadParameter(str(error), param_hint="ARGS") from error
    return execution, args, kwargs, handler is not None
