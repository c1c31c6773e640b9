"""Workflows that wait for input from a person."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

from pydantic import BaseModel

from outlast.compat.mistral_workflows.refusals import CHAT, PAGE
from outlast.core.errors import NotSupported
from outlast.runtime.definitions.workflow import ask

T = TypeVar("T", bound=BaseModel)


class InteractiveWorkflow:
    """The base of workflows that wait for input. The question is in the inbox of the execution.

    A person answers with `outlast answer`, in the inspector, or with `execution.answer(...)`.
    """

    async def wait_for_input(
        self, schema: type[T], label: str | None = None, timeout: timedelta | float | None = None
    ) -> T:
        """Ask for a value of the model `schema`, and return it; it waits as long as it takes.

        Raises:
            TimeoutError: nobody answered within `timeout`.
            NotSupported: the schema is not a model, but something that Mistral's chat application draws.
        """
        if not isinstance(schema, type):
            raise NotSupported(f"wait_for_input() takes a pydantic model; {CHAT} ({PAGE})")
        seconds = timeout if isinstance(timeout, timedelta) or timeout is None else timedelta(seconds=timeout)
        return await ask(label or schema.__name__, schema, timeout=seconds)
