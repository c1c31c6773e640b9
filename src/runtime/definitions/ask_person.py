"""A tool by which an agent asks a person."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from outlast.runtime.definitions import workflow

NOBODY_ANSWERS = (
    "AskPerson waits for a person's answer, for which this run cannot wait: "
    "run it in a workflow, or give it an id and a backend"
)

_MARK = "__outlast_asks_a_person__"


def asks_a_person(tool: Any) -> bool:
    """Return whether this is a tool that `AskPerson` has returned."""
    return hasattr(tool, _MARK)


def AskPerson(  # reads as a tool
    to: str | None = None, *, timeout: timedelta | None = None
) -> Callable[[str], Awaitable[str]]:
    """Return a tool `ask_person`: the model asks a question, and gets a person's answer as the result.

    The question is one of `workflow.ask`, in the same inbox. If nobody answers within `timeout`, the call
    fails with a `TimeoutError`, which the model gets as the result. A run outside workflows needs an `id`:
    without one it raises `NotSupported`, before it does anything.

    Args:
        to: The people who are asked, as they are known to those who look at the inbox.
        timeout: The longest time to wait; as long as it takes by default.

    Raises:
        DefinitionError: an argument is not of its type.
    """
    workflow.check_question("The model asks.", to, timeout)

    async def ask_person(question: str) -> str:
        """Ask a person, and wait for the answer.

        Args:
            question: The question, with all that one must know to answer it.
        """
        return await workflow.ask(question, timeout=timeout, to=to)

    setattr(ask_person, _MARK, True)
    return ask_person
