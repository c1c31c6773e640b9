"""The command line as a whole: its commands, which are loaded when they are needed, and its errors.

Each module of commands imports what its commands need: the core, a backend, tables. Loading all of that takes
several times as long as printing the help, or completing the name of a command. So this module has the names
and the first lines of the commands in a table, and imports only the module of the command that is called. A
test compares the table with the commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version as version_of
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from outlast.cli import EXTRA
from outlast.core.errors import OutlastError

COMMANDS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Run workflows": {
        "start": ("starting", "Start an execution, for a worker to carry on, and print its id."),
        "worker": ("working", "Run workflows until Ctrl-C or SIGTERM."),
        "workers": ("finding", "List the workers that are alive."),
    },
    "See": {
        "list": ("finding", "List executions, the newest first."),
        "show": ("reading", "Show an execution, its events and its timeline."),
        "result": ("reading", "Wait for the end of an execution, and print its result as JSON."),
        "inspect": ("inspecting", "Serve a page that shows executions and steers them."),
    },
    "Talk to executions": {
        "signal": ("messages", "Send a signal to an execution."),
        "query": ("messages", "Print the answer of a query handler as JSON."),
        "update": ("messages", "Send an update to an execution, and print the answer as JSON."),
        "pending": ("inbox", "List the calls that wait for a decision, and the questions."),
        "allow": ("inbox", "Allow a tool call that waits for a decision."),
        "deny": ("inbox", "Deny a tool call that waits for a decision."),
        "answer": ("inbox", "Answer a question that waits for an answer."),
        "chat": ("chatting", "Talk to an agent in a durable conversation."),
        "say": ("steering", "Give a run at work a message, which its model gets with the next call."),
        "interrupt": ("steering", "End the turn of a run at work; the workflow decides what follows."),
    },
    "End, hold, run again and tag": {
        "cancel": ("control", "Ask executions to end; their code can clean up first."),
        "terminate": ("control", "End executions at once, without any clean-up."),
        "pause": ("control", "Let executions stand still until somebody resumes them."),
        "resume": ("control", "Let executions go on that are paused or held."),
        "retry": ("control", "Open executions again that failed, were cancelled or terminated."),
        "fork": ("copies", "Start an execution whose journal begins with that of another one."),
        "tag": ("control", "Add, replace and remove tags of executions."),
        "prune": ("control", "Forget executions that ended long ago."),
    },
    "Carry and check": {
        "export": ("copies", "Print executions as lines of JSON."),
        "import": ("copies", "Keep executions that were exported, and print their ids."),
        "check": ("checking", "Replay open executions against the code at hand."),
    },
    "More": {
        "agents": ("agents", "Remote agents that this library has made."),
        "temporal": ("temporal", "The namespace of a Temporal service."),
        "demo": (
            "showing",
            "Kill a process in the middle of a multi-agent analysis, and see another finish it.",
        ),
    },
}
"""The commands by section, each with the module that has it and the first line of its help."""

GROUPS = ("agents", "temporal")
"""The commands that have commands of their own."""

_ALL = {name: at for section in COMMANDS.values() for name, at in section.items()}


@dataclass(frozen=True, slots=True)
class _Completion:
    """A name that a shell may complete, with the attributes that typer reads."""

    value: str
    help: str
    type: str = "plain"


class _Group(TyperGroup):
    """Loads a command when it is called, and ends every error in one message."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_ALL)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _ALL:
            return None
        module = import_module(f"outlast.cli.{_ALL[cmd_name][0]}")
        group = get_group(module.app)
        return group if cmd_name in GROUPS else group.commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for section, commands in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name, line) for name, (_, line) in commands.items()])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [_Completion(name, line) for name, (_, line) in _ALL.items() if name.startswith(incomplete)]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        names: Any = dict.fromkeys(_ALL)  # Suggestions are made from these; only the names count.
        self.commands = names
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            message = _message_of(error)
            if message is None or ctx.params.get("debug"):
                raise
            typer.echo(f"error: {message}", err=True)
            raise typer.Exit(1) from error


def _message_of(error: Exception) -> str | None:
    """Return the message for people about an error; None if its callers handle it."""
    from outlast.cli.rendering.text import printable_lines

    if isinstance(error, OutlastError):
        return printable_lines(str(error))
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in EXTRA:
        return None
    if isinstance(error, BrokenPipeError) or type(error).__module__.partition(".")[0] in ("click", "typer"):
        return None
    if isinstance(error, OSError) and error.strerror is not None:
        return printable_lines(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"unexpected {printable_lines(said)}; `outlast --debug …` shows where it was raised"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"outlast {version_of('outlast')}")
        raise typer.Exit


# Typer's own tracebacks show local variables, and those may hold a key. Its markup would load rich for the
# help and for errors of use.
app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback()
def outlast(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error was raised.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """LLM agents that survive crashes.

    What a command finds goes to standard output, everything else to standard error. Exit codes: 0 it worked;
    1 it did not, or not for all that it was asked for; 2 it was called wrongly; 130 Ctrl-C ended a wait.
    """
