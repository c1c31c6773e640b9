"""What is put into an execution's inbox."""

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
    """An update for a handler; `id` is the caller's name for it, whatever the id of the message."""

    type: Literal["update"] = "update"
    id: str
    name: str
    arguments: tuple[JSON, ...] = ()
    named: dict[str, JSON] = Field(default_factory=dict)


class CancelMessage(Value):
    """A request to end."""

    type: Literal["cancel"] = "cancel"


AnyMessage = SignalMessage | UpdateMessage | CancelMessage

_message: TypeAdapter[AnyMessage] = TypeAdapter(Annotated[AnyMessage, Discriminator("type")])


def decode_message(body: bytes) -> AnyMessage:
    """Return the message that `body` is; raises `StorageCorrupt` if it is not one."""
    try:
        return _message.validate_python(decode(body))
    except ValueError as error:
        raise StorageCorrupt(
            "an inbox holds bytes that are not a message of this library; other code wrote them"
        ) from error
