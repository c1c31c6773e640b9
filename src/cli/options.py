"""The options and arguments that several commands have."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from outlast.cli.completing import completed_ids
from outlast.composition.backends import BACKEND_VARIABLE, DEFAULT_BACKEND

MODULE_VARIABLE = "OUTLAST_MODULE"

BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="URL",
        help=f"Where executions live (default: {BACKEND_VARIABLE}, else {DEFAULT_BACKEND}).",
        show_default=False,
    ),
]
ModuleOption = Annotated[
    str | None,
    typer.Option(
        "--module",
        metavar="MODULE",
        help=f"The module that defines the workflow (default: {MODULE_VARIABLE}).",
        envvar=MODULE_VARIABLE,
        show_envvar=False,
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document a line.")]
FullOption = Annotated[bool, typer.Option("--full", help="Shorten nothing.")]
IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The execution's id.", autocompletion=completed_ids)
]
AgainOption = Annotated[
    bool, typer.Option("--again", help='Repeat also what has effect="once", after you looked at it.')
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

# The arguments of a workflow or a handler, in three forms that can be mixed.

WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="ARGS", help="Text for parameters of type str, JSON for others."),
]
ArgOption = Annotated[
    list[str] | None,
    typer.Option("--arg", metavar="NAME=VALUE", help="The argument of one parameter, by its name."),
]
InputOption = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="JSON", help="Arguments by name, as a JSON object; - reads standard input."
    ),
]


def user_name() -> str | None:
    """Return the name of the user, where there is one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no name for this user id
        return None
