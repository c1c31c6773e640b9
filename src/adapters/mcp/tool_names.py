"""The names under which a model sees the tools of a server."""

from __future__ import annotations

import hashlib
import re

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
ANY_TOOL = "*"
"""Stands for all tools that are not named explicitly."""

LENGTH_MAX = 64
"""The longest name that model APIs accept."""


def tool_name(server: str, tool: str) -> str:
    """Return the name of a tool for models: server and tool, in characters that every model API accepts.

    A name that is too long is cut, and ends with a hash of the tool's name, so that it stays unique.
    """
    name = _NOT_IN_A_NAME.sub("_", f"{server}_{tool}")
    if len(name) <= LENGTH_MAX:
        return name
    digest = hashlib.sha256(tool.encode()).hexdigest()[:8]
    return f"{name[: LENGTH_MAX - len(digest) - 1]}_{digest}"
