"""The commands that show one execution: its facts, its events, its result."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from outlast.cli.following import TICK_SECONDS, InPlace, with_ticks
from outlast.cli.opening import opened
from outlast.cli.options import BackendOption, FullOption, IdArgument, JsonOption
from outlast.cli.rendering import documents
from outlast.cli.rendering.console import console
from outlast.cli.rendering.event_lines import PREFIX_LENGTH, EventLines
from outlast.cli.rendering.properties import properties_of, property_lines
from outlast.cli.rendering.text import LENGTH, printable_lines
from outlast.cli.rendering.timeline import WIDTH, WIDTH_MAX, TimelineText
from outlast.cli.rendering.waits import wait_line
from outlast.cli.waiting import waited
from outlast.core.event_stream import Event
from outlast.core.events import ExecutionCompletedData
from outlast.core.json import JSON
from outlast.core.timeline import Timeline
from outlast.ports.durability.execution import Execution

LENGTH_MIN = 40

app = typer.Typer(rich_markup_mode=None)


@app.command()
def show(
    id: IdArgument,
    backend: BackendOption = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            "-f",
            help="Go on until the execution ends, printing events as they come. On a terminal, the timeline "
            "stands below them and changes there.",
        ),
    ] = False,
    full: FullOption = False,
    json: JsonOption = False,
) -> None:
    """Show an execution, its events and its timeline.

    With --json, the first line is the execution, as `outlast list --json` prints it, and each event follows
    in a line.
    """

    async def shown() -> None:
        async with opened(backend) as place:
            execution = await place.get(id)
            printing = _print_json(execution, follow) if json else _print(execution, follow, full)
            if follow:
                await waited(execution, printing, "the end", f"show {id} --follow", silent=True)
            else:
                await printing

    asyncio.run(shown())


@app.command()
def result(id: IdArgument, backend: BackendOption = None) -> None:
    """Wait for the end of an execution, and print its result as JSON.

    The result of a durable run (`Runner.run` with an id) is its answer.
    Exits with 1, and the error on standard error, if it failed, was cancelled or was terminated.
    """

    async def ended() -> Any:
        async with opened(backend) as place:
            execution = await place.get(id)
            return await _answer(
                execution, await waited(execution, execution.result(), "the result", f"result {id}")
            )

    typer.echo(documents.value_json(asyncio.run(ended())))


async def _answer(execution: Execution, result: JSON) -> JSON:
    """Return the result to print: a durable run returns nothing, its answer is in its journal."""
    if result is not None:
        return result
    from outlast.composition.durable_run import answer_of

    return await answer_of(execution)


async def _print_json(execution: Execution, follow: bool) -> None:
    typer.echo(documents.execution_json(await execution.describe()))
    async for event in execution.events(follow=follow):
        typer.echo(documents.event_json(event))


async def _print(execution: Execution, follow: bool, full: bool) -> None:
    out = console()
    description = await execution.describe()
    now = datetime.now(UTC)
    waits = Text("\n".join(wait_line(wait, now) for wait in description.waiting_for))
    for line in property_lines(properties_of(description) | {"waits for": waits}):
        out.print(line)
    out.print()
    room = max(LENGTH_MIN, out.width - PREFIX_LENGTH) if out.is_terminal else LENGTH
    lines, timeline = EventLines(None if full else room), Timeline()
    drawing = TimelineText(min(out.width, WIDTH_MAX) if out.is_terminal else WIDTH, out.encoding)
    completed: ExecutionCompletedData | None = None

    def taken(event: Event) -> list[Text]:
        nonlocal completed
        timeline.take(event)
        completed = event.data if isinstance(event.data, ExecutionCompletedData) else None
        return list(lines.lines(event))

    if follow and out.is_terminal and not out.is_dumb_terminal:
        with InPlace(out, lambda height: drawing.lines(timeline, datetime.now(UTC), height=height)) as shown:
            async for event in with_ticks(execution.events(), TICK_SECONDS):
                if event is not None:
                    shown.add(taken(event))
                else:
                    shown.tick()
    else:
        async for event in execution.events(follow=follow):
            for line in taken(event):
                out.print(line)
    now = datetime.now(UTC)
    if drawn := drawing.lines(timeline, now):
        out.print()
        for line in drawn:
            out.print(line)
    totals = {
        "open": "" if follow or description.ended_at else "\n".join(lines.open(now)),
        "result": ""
        if completed is None
        else printable_lines(documents.value_json(await _answer(execution, completed.result))),
    }
    if any(totals.values()):
        out.print()
        for line in property_lines({name: Text(value) for name, value in totals.items()}):
            out.print(line)
