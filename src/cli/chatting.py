"""The command for a conversation with an agent in a terminal."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from typing import Annotated, Any

import typer

from outlast.cli.loading import attribute_of
from outlast.cli.opening import opened
from outlast.cli.options import BackendOption
from outlast.cli.rendering.text import compact, printable, printable_text
from outlast.core.errors import ConfigurationError
from outlast.core.event_stream import Event
from outlast.core.events import (
    ApprovalRequestedData,
    ExecutionHeldData,
    ExecutionPausedData,
    ExecutionResumedData,
    ModelRepliedData,
    QuestionAskedData,
    TextDeltaData,
    ToolCalledData,
)
from outlast.core.json import JSON
from outlast.core.step_keys import is_within_another
from outlast.core.waiting import WaitingKind, pause_in_words
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

    Each line is a message; the text of the answer is printed as it is written. If the answer waits for a
    person, the command to go on with is on stderr; give it in another terminal. The conversation is an
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
            printer = Printer(id, "" if url is None else " --backend URL", position)
            await _show_waits(execution, printer)
            has_failed = False
            while (line := await asyncio.to_thread(_next_line)) is not None:
                if line.strip() and not await _is_answered(execution, line, printer):
                    has_failed = True
    if has_failed and not sys.stdin.isatty():
        raise typer.Exit(1)  # Nobody is there who has read the errors.


async def _show_waits(execution: Execution, printer: Printer) -> None:
    """Print what an answer to an earlier message waits for."""
    for one in (await execution.describe()).waiting_for:
        if one.kind is WaitingKind.PAUSED:
            printer.stopped(one.text or pause_in_words(None))
        elif one.kind is WaitingKind.HELD:
            printer.stopped(f"held: {one.text}")
    for approval in await execution.pending():
        printer.approval(approval.agent, approval.tool, approval.arguments, approval.call_id)
    for question in await execution.questions():
        printer.question(question.question, question.key)


async def _is_answered(execution: Execution, line: str, printer: Printer) -> bool:
    """Send a message, and print what comes until it is answered; return False if the answer is an error."""
    asked = asyncio.ensure_future(execution.update("ask", line))
    events = execution.events(printer.position)
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
    if state["error"] is not None:
        typer.echo(f"error: {printable(state['error'])}", err=True)
    return state["error"] is None


class Printer:
    """Prints the answer to a message, as it is written; and beside it the calls of tools, and all waits.

    The answer alone is on stdout: runs within its run, such as those of agents that are tools, are not.
    """

    def __init__(self, id: str, options: str, position: int) -> None:
        """Print what comes after `position`; `options` are what a command about `id` needs."""
        self.position = position
        self._id = shlex.quote(id)
        self._options = options
        self._is_written = False

    def show(self, event: Event) -> None:
        """Print an event."""
        self.position = event.position
        match event.data:
            case TextDeltaData(run=run, text=text) if not is_within_another(run):
                self._is_written = True
                typer.echo(printable_text(text), nl=False)
            case ModelRepliedData(run=run) as replied if not is_within_another(run):
                if not self._is_written:
                    typer.echo(printable_text(replied.text), nl=False)
                if self._is_written or replied.text:
                    typer.echo("")
                self._is_written = False
            case ToolCalledData(agent=agent, tool=tool):
                self._note(f"{agent} calls {tool}")
            case ApprovalRequestedData(agent=agent, tool=tool, arguments=arguments, call_id=call):
                self.approval(agent, tool, arguments, call)
            case QuestionAskedData(question=question, key=key):
                self.question(question, key)
            case ExecutionPausedData(reason=reason):
                self.stopped(pause_in_words(reason))
            case ExecutionHeldData(reason=reason):
                self.stopped(f"held: {reason}")
            case ExecutionResumedData():
                self._note("resumed")

    def approval(self, agent: str, tool: str, arguments: Mapping[str, JSON], call: str) -> None:
        """Print that a call waits until somebody allows it."""
        self._note(
            f"{agent} may call {tool} {compact(dict(arguments))} after: {self._command('allow', call)}"
        )

    def question(self, question: str, key: str) -> None:
        """Print that a question waits for an answer."""
        self._note(f"question: {question} Reply with: {self._command('answer', key, 'ANSWER')}")

    def stopped(self, why: str) -> None:
        """Print that the conversation is paused or held."""
        self._note(f"{why}; it goes on after: {self._command('resume')}")

    def _command(self, name: str, *arguments: str) -> str:
        return " ".join([f"outlast {name}", self._id, *map(shlex.quote, arguments)]) + self._options

    def _note(self, text: str) -> None:
        typer.echo(f"[{printable(text)}]", err=True)


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
