"""The command for a conversation with an agent in a terminal."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import is_dataclass, replace
from typing import Annotated, Any

import typer

from outlast.cli.loading import attribute_of
from outlast.cli.opening import opened
from outlast.cli.options import BackendOption
from outlast.cli.rendering.text import printable, printable_text
from outlast.core.errors import ConfigurationError
from outlast.core.event_stream import Event
from outlast.core.events import ModelRepliedData, QuestionAskedData, TextDeltaData, ToolCalledData
from outlast.ports.durability.execution import Execution

app = typer.Typer(rich_markup_mode=None)


@app.command()
def chat(
    agent: Annotated[
        str, typer.Argument(metavar="MODULE:AGENT", help="An agent, or an AgentWorkflow, in a module.")
    ],
    id: Annotated[
        str, typer.Option(metavar="ID", help="The id of the conversation; the same id goes on with it.")
    ],
    session: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The session in the module that an agent talks over (default: Mistral's API).",
            show_default=False,
        ),
    ] = None,
    backend: BackendOption = None,
) -> None:
    """Talk to an agent in a durable conversation.

    Each line is a message; the text of the answer is printed as it is written. The conversation is an
    execution, which this command carries on while it runs. Ctrl-D or Ctrl-C ends the command, not the
    conversation. If the lines come from a pipe and one of them got an error, it exits with 1.
    """
    asyncio.run(_chat(agent, id, session, backend))


async def _chat(target: str, id: str, session: str | None, url: str | None) -> None:
    conversation = _conversation(target, session)
    async with opened(url, create=True) as backend:
        # A queue of its own: no other process has the agent of this module.
        queue = f"chat/{id}"
        execution = await backend.start(conversation, id=id, task_queue=queue)
        async with backend.worker([conversation], task_queue=queue):
            position = 0
            async for event in execution.events(follow=False):
                position = event.position
            has_failed = False
            while (line := await asyncio.to_thread(_next_line)) is not None:
                if line.strip():
                    position, is_answered = await _answered(execution, line, position)
                    has_failed = has_failed or not is_answered
    if has_failed and not sys.stdin.isatty():
        raise typer.Exit(1)  # Nobody is there who has read the errors.


async def _answered(execution: Execution, line: str, position: int) -> tuple[int, bool]:
    """Send a message, and print what comes until it is answered.

    Return the position of the last event, and whether there is an answer, not an error.
    """
    asked = asyncio.ensure_future(execution.update("ask", line))
    printer = Printer(position)
    events = execution.events(position)
    coming = asyncio.ensure_future(anext(events))
    while not asked.done():
        await asyncio.wait({asked, coming}, return_when=asyncio.FIRST_COMPLETED)
        if coming.done():
            printer.show(coming.result())
            coming = asyncio.ensure_future(anext(events))
    coming.cancel()
    state: dict[str, Any] = await asked
    async for event in execution.events(printer.position, follow=False):
        printer.show(event)
    typer.echo("")
    if state["error"] is not None:
        typer.echo(f"error: {printable(state['error'])}", err=True)
    return printer.position, state["error"] is None


class Printer:
    """Prints the answer to a message: text as it is written, and the calls of tools."""

    def __init__(self, position: int) -> None:
        self.position = position
        self._is_written = False

    def show(self, event: Event) -> None:
        """Print an event."""
        self.position = event.position
        match event.data:
            case TextDeltaData(text=text):
                self._is_written = True
                typer.echo(printable_text(text), nl=False)
            case ModelRepliedData() as replied:
                if not self._is_written:
                    typer.echo(printable_text(replied.text), nl=False)
                self._is_written = False
            case ToolCalledData(agent=agent, tool=tool):
                typer.echo(f"[{printable(agent)} calls {printable(tool)}]", err=True)
            case QuestionAskedData(question=question, key=key):
                typer.echo(f"[question {printable(key)}: {printable(question)}]", err=True)


def _next_line() -> str | None:
    """Return the next line that is typed or read; None at the end."""
    if sys.stdin.isatty():
        try:
            return input("> ")
        except EOFError:
            return None
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None


def _conversation(target: str, session: str | None) -> type[Any]:
    """Return the workflow for a conversation.

    Raises:
        ConfigurationError: there is neither an agent nor an AgentWorkflow of that name.
    """
    from outlast.composition.agent_workflow import AgentWorkflow, conversation_with
    from outlast.runtime.definitions.agent import Agent

    found = attribute_of(target)
    if isinstance(found, type) and issubclass(found, AgentWorkflow):
        if session is not None:
            raise ConfigurationError(f"{target!r} has a session of its own; leave out --session")
        return found
    if not isinstance(found, Agent):
        raise ConfigurationError(
            f"{target!r} is not an agent but a {type(found).__name__}; name an Agent or an AgentWorkflow"
        )
    module = target.partition(":")[0]
    way = None if session is None else attribute_of(f"{module}:{session}")
    if way is not None and is_dataclass(way) and not isinstance(way, type) and hasattr(way, "stream"):
        way = replace(way, stream=True)
    return conversation_with(found, way)
