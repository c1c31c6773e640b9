"""CONTRIBUTING.md names files that exist."""

from __future__ import annotations

import re

import pytest

from tests.house.wheels import REPOSITORY

PATH = re.compile(r"`([\w./]*/[\w./]*|[\w.]+\.(?:py|pyi|md|toml)|\.importlinter)`")
PATHS = sorted(set(PATH.findall((REPOSITORY / "CONTRIBUTING.md").read_text())))


@pytest.mark.parametrize("path", [path for path in PATHS if "NAME" not in path])
def test_a_file_to_touch_exists(path: str) -> None:
    assert (REPOSITORY / path).exists() or (REPOSITORY / "src" / path).exists()


def test_the_paths_are_found() -> None:
    assert {"composition/backends.py", ".importlinter", "core/event_stream.py", "pyproject.toml"} <= {*PATHS}
