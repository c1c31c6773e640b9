"""The work of every subject: it takes numbers of turns on stdin, and answers with seconds.

The work is an agent that calls one tool in each of T turns, and then says that it is done. Its model is a
function in the same process, so that nothing but the library, its store and its server takes time. A line
`{"turns": T}` asks for one such run; the answer is `{"seconds": S}`. This file needs nothing but Python, so
that it runs in every environment.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version

TEXT = "x" * 200
"""The argument and the result of each tool call."""

RunTurns = Callable[[int], Awaitable[int]]
"""Runs the agent for so many turns, and returns how many calls of its tool came back."""


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


async def serve(run: RunTurns, packages: dict[str, str]) -> None:
    """Answer until the end of the input; the first line says that the subject is ready, and its versions."""
    _answer({"ready": True, "versions": packages})
    while line := await asyncio.to_thread(sys.stdin.readline):
        turns = json.loads(line)["turns"]
        began = time.perf_counter()
        calls = await run(turns)
        seconds = time.perf_counter() - began
        assert calls == turns, f"the agent made {calls} calls in {turns} turns"
        _answer({"seconds": seconds})


def _answer(data: object) -> None:
    print(json.dumps(data), flush=True)
