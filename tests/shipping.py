"""A program with all that logs and traces show: a retry, an approval, an activity in a thread.

All that it says is a secret, also the error of the attempt that fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import outlast
from outlast import workflow
from outlast.adapters.scripted import call, say
from outlast.core.usage import Usage
from outlast.ports.llm import ModelReply

SECRET = "a prompt that nobody else may read"


class Scene:
    """The parts of the program that a test chooses."""

    span: Callable[[str], AbstractContextManager[Any]] = nullcontext
    """Surrounds what an activity does; it is given a name for that."""


@outlast.activity(name="weigh", retry_policy_initial_interval=timedelta(0))
async def weigh(what: str) -> str:
    """Weigh something."""
    if outlast.activity.info().attempt == 1:
        raise LookupError(f"the scales are in use: {SECRET}")
    with Scene.span("ask the scales"):
        return SECRET


@outlast.activity(name="pack")
def pack(what: str) -> str:
    """Pack something, in a thread."""
    with Scene.span("fold the box"):
        return SECRET


@outlast.activity(name="ship", requires_approval=True)
async def ship(what: str) -> str:
    """Ship something."""
    return SECRET


def replies(request: Any) -> Any:
    """Return the replies of the model: two calls, then an answer."""
    match request.turn:
        case 1:
            return call("weigh", {"what": SECRET})
        case 2:
            return call("ship", {"what": SECRET})
    usage = Usage(prompt_tokens=7, completion_tokens=2, total_tokens=9)
    return ModelReply(entries=(say(SECRET),), usage=usage)


@workflow.define(name="shipping")
class Shipping:
    """Ships what it is asked for, once somebody has allowed that."""

    @workflow.entrypoint
    async def run(self, question: str) -> str:
        agent = outlast.Agent(model="m-1", name="clerk", tools=[weigh, ship])
        text = (await outlast.Runner.run(agent, question, outlast.ScriptedSession(replies))).text
        return await pack(text)


async def approved(execution: outlast.Execution) -> Any:
    """Allow the call that waits, and return the result."""
    async with asyncio.timeout(60):
        async for event in execution.events():
            if event.kind is outlast.EventKind.APPROVAL_REQUESTED:
                [waiting] = await execution.pending()
                await execution.decide(waiting.call_id, "allow")
                break
        return await execution.result()
