"""Guardrails: checks of the inputs and of the answer of a run, before these take effect.

A guardrail is an agent, an activity, or a function of the text; a plain function runs in the workflow and
must be pure, as a tool must. It returns None to let the text pass, `Reject` to end the run with an error, or
`Replace` to go on with another text. Its verdict follows from the journal, and is in the event stream. If a
guardrail fails, its error ends the run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from outlast.core.errors import DefinitionError
from outlast.runtime.definitions.activity import Activity
from outlast.runtime.definitions.callables import is_async
from outlast.runtime.definitions.depends import refuse_dependencies
from outlast.runtime.definitions.run_context import RunContext, can_take, with_context


@dataclass(frozen=True, slots=True)
class Reject:
    """The verdict of a guardrail that ends the run; the reason is in the error."""

    reason: str


@dataclass(frozen=True, slots=True)
class Replace:
    """The verdict of a guardrail that goes on with `text` instead."""

    text: str


Verdict = Reject | Replace | None
Guardrail = Callable[..., Any]
"""A function or an activity that takes the text, a function perhaps a `RunContext` too; or an `Agent`."""


class GuardrailAnswer(BaseModel):
    """The answer of an agent that is a guardrail: the text is allowed, or the reason why it is not."""

    allowed: bool
    reason: str = ""
    replacement: str | None = None
    """A text to go on with instead, if there is a harmless one."""

    def verdict(self) -> Verdict:
        """Return the answer as a verdict; if the text is allowed, it stays unchanged."""
        if self.allowed:
            return None
        if self.replacement is not None:
            return Replace(self.replacement)
        return Reject(self.reason or "no reason given")


def guardrail_name(guardrail: Any) -> str:
    """Return the name of a guardrail in errors and events."""
    name = getattr(guardrail, "name", None) or getattr(guardrail, "__name__", None)
    return name if isinstance(name, str) else type(guardrail).__name__


def check_guardrail(guardrail: Any, agent: str, is_agent: bool, given: str = "the text") -> None:
    """Refuse a value that cannot be a guardrail; `given` says what its argument is.

    Raises:
        DefinitionError: it is not a function of one argument, it runs in the workflow and has dependencies,
            or it is an agent with another output type.
    """
    what = f"guardrail {guardrail_name(guardrail)!r} of agent {agent!r}"
    if is_agent:
        if guardrail.output_type not in (None, GuardrailAnswer):
            raise DefinitionError(f"{what} has an output_type; leave it out: for it is GuardrailAnswer")
        return
    if not callable(guardrail) or isinstance(guardrail, type):
        raise DefinitionError(
            f"{what} is not a guardrail; give a function that takes the text, an activity or an Agent"
        )
    if not isinstance(guardrail, Activity):
        refuse_dependencies(guardrail, what)
    if not can_take(guardrail, "text"):
        raise DefinitionError(f"{what} must take one argument, {given}, beside a RunContext")


def check_tool_guardrail(guardrail: Any, agent: str, tool: str, of: str, is_plain: bool) -> None:
    """Refuse a value that cannot be a guardrail of a tool; `is_plain` is False for agents and activities.

    Its argument is that of a "call", the arguments by name, or that of a "result", a text.

    Raises:
        DefinitionError: it is not a plain function of one argument.
    """
    if not is_plain or is_async(guardrail):
        raise DefinitionError(
            f"guardrail {guardrail_name(guardrail)!r} of tool {tool!r} of agent {agent!r} must be a plain "
            "function of the arguments or the result: not async, not an activity, and not an agent"
        )
    given = "a dict of the call's arguments by name" if of == "call" else "the text of the result"
    check_guardrail(guardrail, agent, False, given)


def as_guardrail(agent: Any) -> Any:
    """Return an agent that answers with a `GuardrailAnswer`."""
    return replace(agent, output_type=GuardrailAnswer)


async def verdict_of(guardrail: Guardrail, text: str, run: RunContext[Any]) -> Verdict:
    """Return the verdict of a function or an activity on a text, at that place of a run.

    Raises:
        DefinitionError: it returned something that is not a verdict.
    """
    answer = with_context(guardrail, run)(text)
    if inspect.isawaitable(answer):
        answer = await answer
    return _checked(guardrail, answer)


def plain_verdict_of(guardrail: Guardrail, given: Any, run: RunContext[Any]) -> Verdict:
    """Return the verdict of a plain function on the arguments of a call, or on its result.

    Raises:
        DefinitionError: it returned something that is not a verdict.
    """
    return _checked(guardrail, with_context(guardrail, run)(given))


def _checked(guardrail: Guardrail, answer: Any) -> Verdict:
    if answer is None or isinstance(answer, (Reject, Replace)):
        return answer
    raise DefinitionError(
        f"guardrail {guardrail_name(guardrail)!r} returned a {type(answer).__name__}; "
        "return None, Reject(reason) or Replace(text)"
    )
