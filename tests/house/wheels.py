"""Distributions of this checkout, and environments that hold them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from uv import find_uv_bin

REPOSITORY = Path(__file__).parents[2]


def uv(*arguments: str | Path) -> str:
    return subprocess.run(
        [find_uv_bin(), *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout


def build_wheel(folder: Path) -> Path:
    """Build the wheel from the source distribution, so that both are known to be complete."""
    uv("build", "--quiet", "--out-dir", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment_with(folder: Path, *requirements: str | Path) -> Path:
    """Make a fresh environment that holds the requirements; return its interpreter."""
    uv("venv", "--quiet", "--clear", "--python", sys.executable, folder)
    interpreter = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    uv("pip", "install", "--quiet", "--python", interpreter, *requirements)
    return interpreter
