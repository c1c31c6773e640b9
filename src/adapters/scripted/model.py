"""Models that play: what such a model is asked, and what it may answer.

A model is a function of a `ModelCall`. The same function plays in a `ScriptedSession`, without a server, and
behind the stand-in for Mistral's API, where a real session and a real SDK ask it over HTTP.

    def weather(asked: ModelCall) -> Reply:
        if asked.results:
            return f"It is {asked.last_result}."
        return call("look_up", {"city": asked.text})
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, ClassVar, Protocol, TypeGuard

from pydantic import BaseModel, TypeAdapter, ValidationError

from outlast.core.agents import handoff_tool
from outlast.core.argument_checks import check_mapping, check_text
from outlast.core.chunks import Chunk, Content
from outlast.core.entries import Entry, FunctionCall, MessageOutput
from outlast.core.errors import ModelError, ModelOverloaded, ModelRefused, ModelUnreachable
from outlast.core.json import JSON, encode
from outlast.core.values import Value, WireValue
from outlast.ports.llm import ModelReply


class ModelCall(Protocol):
    """One call of a model: what a session and a server both know of it."""

    @property
    @abstractmethod
    def agent(self) -> str | None:
        """The name of the active agent; None behind a chat endpoint, which knows no agents."""

    @property
    @abstractmethod
    def model(self) -> str:
        """The name of the model that is asked."""

    @property
    @abstractmethod
    def all_instructions(self) -> str:
        """The whole system prompt."""

    @property
    @abstractmethod
    def conversation(self) -> tuple[Entry, ...]:
        """All entries so far, the newest last."""

    @property
    @abstractmethod
    def tool_names(self) -> Sequence[str]:
        """The names of the tools on offer, without handoffs; for a built-in tool, its type."""

    @property
    @abstractmethod
    def handoffs(self) -> Sequence[str]:
        """The names of the agents to which it can hand off; empty behind a chat endpoint."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The text of the last message of the user; "" if there is none."""

    @property
    @abstractmethod
    def results(self) -> Mapping[str, str]:
        """The results of calls since the last reply, by call id, in order."""

    @property
    @abstractmethod
    def replies(self) -> int:
        """The number of replies in the conversation so far."""


@dataclass(frozen=True, slots=True)
class ModelFailure:
    """An attempt to get a reply fails; see `fail`."""

    status: int
    message: str
    retry_after_seconds: float | None = None

    def error(self) -> ModelError:
        """Return the error that a session raises for it."""
        if not self.status:
            return ModelUnreachable(self.message)
        if self.status == 429 or self.status >= 500:
            return ModelOverloaded(self.status, self.message, self.retry_after_seconds)
        return ModelRefused(self.status, self.message)


class DataclassInstance(Protocol):
    """An object of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


OutputValue = BaseModel | DataclassInstance
"""A value of an agent's output type: an object of a pydantic model or of a dataclass."""

Reply = str | Entry | ModelFailure | ModelReply | OutputValue | Sequence[str | Entry]
"""One reply: messages and calls of the model, one or several. A `str` is a message, and so is a value of the
agent's output type, as its JSON. A `ModelReply` has usage, too."""


def say(content: Content | Sequence[Chunk] | OutputValue) -> MessageOutput:
    """Return a message of the model: a text, or chunks; or a value of the agent's output type, as its JSON.

    Raises:
        WrongReply: it is something else.
    """
    said: Any = output_text(content) if is_output_value(content) else content
    try:
        return MessageOutput(content=said)
    except ValidationError as error:
        raise WrongReply(
            "say takes a text, a list of chunks, or an object of a pydantic model or a dataclass, not "
            f"{type(content).__name__}; for another output type write its JSON, such as "
            """say('{"value": 3}')"""
        ) from error


def is_output_value(item: object) -> TypeGuard[OutputValue]:
    """Return whether this can be a value of an agent's output type, and is not another part of a reply."""
    if isinstance(item, BaseModel):
        return not isinstance(item, (Value, WireValue))
    return is_dataclass(item) and not isinstance(item, (type, ModelFailure))


def output_text(value: OutputValue) -> str:
    """Return the answer of a model that means this value: its JSON."""
    return TypeAdapter(type(value)).dump_json(value, by_alias=True).decode()


def call(tool: str, arguments: Mapping[str, JSON] | str | None = None, *, call_id: str = "") -> FunctionCall:
    """Return a call of a tool. A `str` of arguments is used unchanged, even if it is not JSON.

    A call without an id gets one, and it is the same in every run.
    """
    check_text("the tool of a call", tool)
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, str):
        check_mapping("the arguments of a call", arguments, 'call("tool", {"name": value})')
        arguments = encode(dict(arguments)).decode()
    return FunctionCall(tool_call_id=call_id, name=tool, arguments=arguments)


def calls(*tools: str | tuple[str, Mapping[str, JSON]] | FunctionCall) -> list[str | Entry]:
    """Return one reply that asks for several calls at once.

    Each is the name of a tool without arguments, a name with its arguments, or what `call` returns.
    """
    made: list[str | Entry] = []
    for tool in tools:
        match tool:
            case FunctionCall():
                made.append(tool)
            case str():
                made.append(call(tool))
            case (name, arguments):
                made.append(call(name, arguments))
    return made


def handoff(agent: str) -> FunctionCall:
    """Return a handoff to another agent, by its name."""
    check_text("the agent of a handoff", agent)
    return call(handoff_tool(agent))


def fail(
    status: int = 503, message: str = "the script wants it so", *, retry_after_seconds: float | None = None
) -> ModelFailure:
    """Let one attempt to get a reply fail, as the API fails with that status; 0 is a broken connection.

    429, and 500 and above, are tried again, by the rules and the waits of production: in a script, each
    `fail` fails one attempt, and the next attempt gets what stands behind it. Any other status ends the run.
    """
    return ModelFailure(status, message, retry_after_seconds)


class ScriptExhausted(LookupError):
    """A script has no reply for a call of the model."""


class WrongReply(TypeError):
    """A script replies with what no model can say, or calls a tool that its agent does not have."""
