"""A tool by which an agent asks a person."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.codec import Codec

NOBODY_ANSWERS = (
    "AskPerson waits for a person's answer, for which this run cannot wait: "
    "run it in a workflow, or give it an id and a backend"
)

_MARK = "__outlast_asks_a_person__"


def asks_a_person(tool: Any) -> bool:
    """Return whether this is a tool that `AskPerson` has returned."""
    return hasattr(tool, _MARK)


def AskPerson(  # reads as a tool
    to: str | None = None, *, answer: Any = str, timeout: timedelta | None = None
) -> Callable[[str], Awaitable[Any]]:
    """Return a tool `ask_person`: the model asks a question, and gets a person's answer as the result.

    The question is one of `workflow.ask`, in the same inbox. If nobody answers within `timeout`, the call
    fails with a `TimeoutError`, which the model gets as the result. A run outside workflows needs an `id`:
    without one it raises `NotSupported`, before it does anything.

    Args:
        to: The people who are asked, as they are known to those who look at the inbox.
        answer: The type of the answer, which the person gets as a JSON schema. The model gets a text as it
            is, every other value as JSON.
        timeout: The longest time to wait; as long as it takes by default.

    Raises:
        DefinitionError: an argument is not of its type, or the type of the answer has no JSON schema.
    """
    workflow.check_question("The model asks.", to, timeout)
    codec = Codec(answer, owner="the answer")
    codec.schema()

    async def ask_person(question: str) -> Any:
        """Ask a person, and wait for the answer.

        Args:
            question: The question, with all that one must know to answer it.
        """
        return codec.dump(await workflow.ask(question, answer, timeout=timeout, to=to))

    setattr(ask_person, _MARK, True)
    return ask_person
