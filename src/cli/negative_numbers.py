"""Negative numbers as arguments of commands: click takes a word that begins with a hyphen for an option."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

_NUMBER = re.compile(r"-\d+(\.\d+)?([eE][+-]?\d+)?")
_HIDDEN = "\0"
"""Put before a number while click reads the command line: no word of a command line can have it."""


class WithNumbers(TyperCommand):
    """A command whose arguments may be negative numbers, without a `--` before them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        left = super().parse_args(
            ctx, [f"{_HIDDEN}{word}" if _NUMBER.fullmatch(word) else word for word in args]
        )
        ctx.params = {name: _shown(value) for name, value in ctx.params.items()}
        return left


def _shown(value: Any) -> Any:
    match value:
        case str():
            return value.removeprefix(_HIDDEN)
        case list() | tuple():
            return type(value)(map(_shown, value))
    return value
