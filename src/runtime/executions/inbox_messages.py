"""The messages that an execution's inbox can hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, TypeAdapter

from outlast.core.errors import StorageCorrupt
from outlast.core.json import JSON, decode
from outlast.core.values import Value


class SignalMessage(Value):
    """A signal for a handler, with its arguments as they were given."""

    type: Literal["signal"] = "signal"
    name: str
    arguments: tuple[JSON, ...] = ()
    named: dict[str, JSON] = Field(default_factory=dict)


class UpdateMessage(Value):
    """An update for a handler; the caller chose `id`, which can differ from the id of the message."""

    type: Literal["update"] = "update"
    id: str
    name: str
    arguments: tuple[JSON, ...] = ()
    named: dict[str, JSON] = Field(default_factory=dict)


class CancelMessage(Value):
    """A request to end."""

    type: Literal["cancel"] = "cancel"


class PauseMessage(Value):
    """A request to pause. It is consumed by the append that pauses the execution, or that says why not."""

    type: Literal["pause"] = "pause"
    reason: str | None = None


class ResumeMessage(Value):
    """A request to go on, whose sender did not find the execution paused yet."""

    type: Literal["resume"] = "resume"


class ChildEndedMessage(Value):
    """A hint that the child with this id has ended; its own journal says how."""

    type: Literal["child_ended"] = "child_ended"
    child: str


AnyMessage = SignalMessage | UpdateMessage | CancelMessage | PauseMessage | ResumeMessage | ChildEndedMessage

_message: TypeAdapter[AnyMessage] = TypeAdapter(Annotated[AnyMessage, Discriminator("type")])


def decode_message(body: bytes) -> AnyMessage:
    """Return the message in `body`; raises `StorageCorrupt` if `body` is not a message."""
    try:
        return _message.validate_python(decode(body))
    except ValueError as error:
        raise StorageCorrupt(
            "an inbox holds bytes that are not a message of this library; other code wrote them"
        ) from error
