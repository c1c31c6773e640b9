"""Workflows that end or hang the process of their worker, and one that does neither."""

from __future__ import annotations

import ctypes
import os
import re
import time
from datetime import timedelta

import outlast


@outlast.activity(retry_policy_max_attempts=100, retry_policy_initial_interval=timedelta(0))
def misbehave(how: str) -> None:
    """Do, in a thread of its own, what nothing in the process can stop."""
    match how:
        case "segmentation fault":
            ctypes.string_at(0)
        case "exit":
            os._exit(3)
        case "regular expression":
            re.search("(a+)+$", "a" * 40 + "!")


@outlast.workflow.define(name="misbehaving")
class Misbehaving:
    @outlast.workflow.entrypoint
    async def run(self, how: str) -> None:
        await misbehave(how)


@outlast.activity()
async def whose() -> int:
    """Return the process that works."""
    return os.getpid()


@outlast.activity()
def take(seconds: float) -> str:
    """Take some time in a thread."""
    time.sleep(seconds)
    return "taken"


@outlast.workflow.define(name="behaving")
class Behaving:
    @outlast.workflow.entrypoint
    async def run(self) -> int:
        return await whose()


@outlast.workflow.define(name="taking")
class Taking:
    @outlast.workflow.entrypoint
    async def run(self, seconds: float) -> str:
        return await take(seconds)
