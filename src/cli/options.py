"""The options and arguments that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from outlast.composition.backends import BACKEND_VARIABLE, DEFAULT_BACKEND

BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="URL",
        help=f"Where executions live (default: {BACKEND_VARIABLE}, else {DEFAULT_BACKEND}).",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document a line.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The execution's id.")]
IdsArgument = Annotated[list[str], typer.Argument(metavar="ID…", help="The ids of executions.")]
AgainOption = Annotated[
    bool, typer.Option("--again", help='Repeat also what has effect="once", after you looked at it.')
]
