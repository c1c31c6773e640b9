"""The messages between a parent and its children, as both find them in their inboxes."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress

from outlast.core.errors import ExecutionAlreadyEnded, ExecutionNotFound, StorageError
from outlast.core.records import AnyRecord, ExecutionStarted
from outlast.ports.durability.steps import Attempt, MessageChild
from outlast.ports.journal import Message, Store
from outlast.runtime.executions.inbox_messages import CancelMessage, ChildEndedMessage, SignalMessage

logger = logging.getLogger("outlast.worker")


async def message_child(store: Store, attempt: Attempt, call: MessageChild) -> None:
    """Send a child what its parent has to say, once: the message has the id of the step.

    Raises:
        ExecutionAlreadyEnded, ExecutionNotFound: it cannot get the signal.
    """
    if call.signal is None:
        await cancel_child(store, call.child, attempt.idempotency_key)
        return
    message = SignalMessage(name=call.signal, arguments=call.arguments, named=call.named)
    await store.send(call.child, _message(attempt.idempotency_key, message.to_json()))


async def cancel_child(store: Store, child: str, sender: str) -> None:
    """Ask a child to end, unless it has ended; once for each sender."""
    with suppress(ExecutionNotFound, ExecutionAlreadyEnded):
        await store.send(child, _message(f"cancel by {sender}", CancelMessage().to_json()))
        await store.resume(child)


async def message_parent(store: Store, child: str, started: AnyRecord | None) -> None:
    """Send the parent of an execution that has ended a hint; without it, the parent looks later."""
    if not isinstance(started, ExecutionStarted) or started.parent is None:
        return
    body = ChildEndedMessage(child=child).to_json()
    with suppress(ExecutionNotFound, ExecutionAlreadyEnded):
        try:
            await store.send(started.parent.id, _message(f"end of {child}", body))
        except StorageError as error:
            logger.warning("execution %s could not send its parent word of its end: %s", child, error)


def _message(what: str, body: bytes) -> Message:
    """Return a message that is sent once, whoever sends it again: ids of executions may be long."""
    return Message(hashlib.sha256(what.encode()).hexdigest(), body)
