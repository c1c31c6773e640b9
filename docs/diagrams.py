"""Draws what the docs show of the code: `python docs/diagrams.py`.

The moves of the machines come from the tables that they obey, the tables of events and records from
their classes, the reference of the command line from the commands. `drawings.py` makes the pictures.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from typer.main import get_command

from outlast.cli.commands import COMMANDS, app
from outlast.core import events, records
from outlast.core.agent_transitions import transitions
from outlast.core.events import DATA
from outlast.core.json import JSON
from outlast.core.workflow_machine import OPERATIONS

DOCS = Path(__file__).parent

main: Any = get_command(app)
Context: Any = main.context_class

FEW = 4
"""The number of events that a table names before it says: all others."""

Move = tuple[str, str, str, str]
"""A phase, what comes, the outcome (empty where there is only one), and the next phase."""


def agent_moves() -> Iterator[Move]:
    """Yield the moves of the agent machine."""
    outcomes = Counter((phase, event) for phase, event, _, _ in transitions())
    for phase, event, outcome, after in transitions():
        yield phase, event, outcome if outcomes[phase, event] > 1 else "", after


def workflow_moves() -> Iterator[Move]:
    """Yield the moves of the workflow machine."""
    for phase, operations in OPERATIONS.items():
        for operation, following in operations.items():
            for after in sorted(following):
                yield phase, operation, "", after


def move_table(moves: Iterable[Move]) -> str:
    """Return a table of the moves of a machine: a row for each pair of phases."""
    arrows: dict[tuple[str, str], dict[str, list[str]]] = {}
    for phase, what, outcome, after in moves:
        arrows.setdefault((phase, after), {}).setdefault(what, []).append(outcome)
    lines = ["| in the phase | what comes | next phase |", "| --- | --- | --- |"]
    for (phase, after), outcomes in arrows.items():
        labels = [f"{what} ({', '.join(named)})" if any(named) else what for what, named in outcomes.items()]
        lines.append(f"| {phase} | {'<br>'.join(labels)} | {after} |")
    return "\n".join(lines)


def move_tables() -> Mapping[str, str]:
    """Return the table of each machine by the name of the page that shows it."""
    return {"agent-machine": move_table(agent_moves()), "workflow-machine": move_table(workflow_moves())}


def event_table() -> str:
    """Return a table of all events: the kind, when one comes, and its fields."""
    lines = ["| kind | when | fields |", "| --- | --- | --- |"]
    for kind, cls in DATA.items():
        when = " ".join((cls.__doc__ or "").split())
        lines.append(f"| `{kind}` | {when} | {', '.join(f'`{name}`' for name in cls.model_fields)} |")
    return "\n".join(lines)


def field_table() -> str:
    """Return a table of the fields of events: the type and the meaning, and where it has that meaning."""
    meanings_of = dict(_fields_in(Path(events.__file__).read_text(encoding="utf-8")))
    found: dict[str, dict[tuple[str, str], list[str]]] = {}
    for kind, cls in DATA.items():
        for name, field in cls.model_fields.items():
            meaning = next(
                meanings_of[base.__name__, name]
                for base in cls.__mro__
                if (base.__name__, name) in meanings_of
            )
            plain = field.annotation.__name__ if isinstance(field.annotation, type) else field.annotation
            typed = _TYPES.get(field.annotation) or str(plain).replace("|", "or")
            found.setdefault(name, {}).setdefault((typed, meaning), []).append(f"`{kind}`")
    lines = ["| field | type | meaning | in |", "| --- | --- | --- | --- |"]
    for name, meanings in sorted(found.items()):
        for (typed, meaning), kinds in meanings.items():
            where = "" if len(meanings) == 1 else ", ".join(kinds) if len(kinds) <= FEW else "all others"
            lines.append(f"| `{name}` | {typed} | {meaning} | {where} |")
    return "\n".join(lines)


def record_tables() -> str:
    """Return a table of the records of each sort: the type, its meaning, and its fields."""
    lines: list[str] = []
    sorts = {"Inputs": records.INPUTS, "Requests": records.REQUESTS, "Notes": records.NOTES}
    for sort, classes in sorts.items():
        lines += [f"## {sort}", "", "| type | meaning | fields |", "| --- | --- | --- |"]
        for cls in classes:
            meaning = " ".join((cls.__doc__ or "").split())
            fields = ", ".join(f"`{name}`" for name in cls.model_fields if name != "type")
            lines.append(f"| `{cls.model_fields['type'].default}` | {meaning} | {fields} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _word(argument: Any) -> str:
    word = argument.metavar + ("…" if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


def command_reference() -> str:
    """Return the help of every command, section by section."""
    lines: list[str] = []
    with Context(main) as context:
        for section, names in COMMANDS.items():
            lines += [f"### {section}", ""]
            for name in names:
                command = main.get_command(context, name)
                lines += [
                    line for one in _commands_in(name, command) for line in _reference_of(context, *one)
                ]
    return "\n".join(lines).rstrip()


def _commands_in(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield a command or, if it is a group, the commands in it, each with its whole name."""
    parts = getattr(command, "commands", None)
    if parts is None:
        yield name, command
    else:
        yield from ((f"{name} {part}", one) for part, one in parts.items())


def _reference_of(context: Any, name: str, command: Any) -> Iterator[str]:
    """Yield the lines about one command: how to call it, what it does, its arguments and options."""
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    words = [_word(one) for one in shown if one.param_type_name == "argument"]
    yield f"**`{' '.join(['outlast', name, *words])}`**"
    yield ""
    for paragraph in (command.help or "").split("\n\n"):
        yield from (" ".join(paragraph.split()), "")
    yield "| | |"
    yield "| --- | --- |"
    for one in shown:
        called, means = one.get_help_record(context)
        if one.param_type_name == "argument":
            called = one.metavar
        meaning = " ".join(means.replace("[required]", "").split())
        yield f"| `{called.replace('|', chr(92) + '|')}` | {meaning} |"
    yield ""


_TYPES: dict[Any, str] = {
    JSON: "JSON",
    dict[str, JSON]: "JSON object",
    dict[str, JSON] | None: "JSON object or None",
    tuple[events.Carried, ...]: "tuple of JSON",
    Literal["input", "output", "call", "result"]: '"input", "output", "call" or "result"',
}


def _fields_in(source: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield what the source says of the fields of its classes, by class and field."""
    for cls in ast.parse(source).body:
        if isinstance(cls, ast.ClassDef):
            for statement, following in pairwise(cls.body):
                match statement, following:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                        value=ast.Constant(value=str(text))
                    ):
                        yield (cls.name, name), " ".join(text.split())


def drawings() -> Mapping[str, Mapping[str, str]]:
    """Return what is drawn, by page and by the name that it has there."""
    return {
        **{f"explanation/{name}.md": {name: table} for name, table in move_tables().items()},
        "reference/events.md": {"events": event_table(), "fields": field_table()},
        "reference/records.md": {"records": record_tables()},
        "reference/command-line.md": {"commands": command_reference()},
    }


def redrawn(page: str, drawn: Mapping[str, str]) -> str:
    """Return the text of a page with every drawing as it must be now."""
    for name, drawing in drawn.items():
        block = re.compile(rf"(<!-- {name}: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
        place = block.search(page)
        if place is None:
            raise SystemExit(f"the page has no place for the drawing {name!r}: put its comment back")
        begins, _, ends = page.partition(place[0])
        page = f"{begins}{place[1]}{drawing}\n{place[2]}{ends}"
    return page


if __name__ == "__main__":
    for name, drawn in drawings().items():
        path = DOCS / name
        path.write_text(redrawn(path.read_text(encoding="utf-8"), drawn), encoding="utf-8")
