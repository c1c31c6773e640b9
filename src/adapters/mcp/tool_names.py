"""What the tools of a server are called before a model."""

from __future__ import annotations

import hashlib
import re

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
ANY_TOOL = "*"
"""Stands for every tool that is not named."""

LENGTH_MAX = 64
"""What model APIs accept."""


def tool_name(server: str, tool: str) -> str:
    """Return the name of a tool of a server: both names, in letters that every model API accepts.

    A name that is too long is cut, and ends in a hash of itself so that it stays the only one.
    """
    name = _NOT_IN_A_NAME.sub("_", f"{server}_{tool}")
    if len(name) <= LENGTH_MAX:
        return name
    mark = hashlib.sha256(tool.encode()).hexdigest()[:8]
    return f"{name[: LENGTH_MAX - len(mark) - 1]}_{mark}"
