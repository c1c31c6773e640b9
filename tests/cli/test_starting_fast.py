"""Commands load only what they need: how long that takes depends on the machine, what is loaded does not."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.main import get_command

from outlast.cli.commands import COMMANDS, GROUPS, app

SLOW = ("asyncio", "pydantic", "rich", "outlast.core.events", "outlast.composition", "outlast.adapters")
ENGINE = (
    "outlast.runtime.executions.worker",
    "outlast.runtime.executions.live_execution",
    "outlast.runtime.runs",
)
SDKS = ("mistralai", "mcp", "redis", "temporalio", "httpx")


def loaded_by(*arguments: str) -> set[str]:
    """Return the modules that a process has loaded when the command has ended."""
    program = f"""import sys, contextlib
sys.argv = ["outlast", *{arguments!r}]
from outlast.cli import main
with contextlib.suppress(SystemExit):
    main()
print(*sys.modules, file=sys.stderr)"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(ended.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_help_and_version_load_no_part_of_the_engine(arguments: tuple[str, ...]) -> None:
    loaded = loaded_by(*arguments)
    assert "typer" in loaded
    assert loaded & {*SLOW, *SDKS} == set()


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (
            ("list",),
            (*SDKS, *ENGINE, "outlast.adapters.mistral", "outlast.adapters.redis", "outlast.cli.demo"),
        ),
        (("list", "--json"), (*SDKS, *ENGINE, "rich", "rich.table")),
        (("pending", "--json"), (*SDKS, *ENGINE, "rich", "rich.table")),
        (("show", "nobody", "--json"), (*SDKS, *ENGINE)),
    ],
)
def test_a_command_loads_no_sdk_of_another_backend_and_no_engine(
    arguments: tuple[str, ...], unneeded: tuple[str, ...]
) -> None:
    start = [sys.executable, "-m", "outlast.cli", "start", "shop:order", "apple"]
    subprocess.run(start, check=True, capture_output=True)
    assert loaded_by(*arguments) & {*unneeded} == set()


def test_the_table_of_commands_has_the_first_line_of_each_help() -> None:
    group = get_command(app)
    for section in COMMANDS.values():
        for name, (_, line) in section.items():
            command = group.get_command(None, name)  # type: ignore[attr-defined]  # it is a group
            assert command is not None
            first = (command.help or "").splitlines()[0]
            assert first == line or name in GROUPS
