"""Actions: decisions, messages, and the verbs that end an execution or run it again.

Values that a person writes come as the text that was written, and are read here: the page would lose digits
of long numbers.
"""

from __future__ import annotations

import asyncio
import uuid
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Final

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from outlast.core.approvals import Verdict
from outlast.core.errors import DefinitionError
from outlast.core.json import JSON, check_json, decode
from outlast.core.values import Value, faults
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution
from outlast.web.answers import json, jsonable

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
UPDATE_SECONDS: Final = 20.0
"""The time for which a request waits for the answer to an update."""


class Action(Value):
    """Something to do with one execution."""

    changes: ClassVar[bool] = True
    """False if it is allowed in an inspector that only reads."""
    id: str

    @abstractmethod
    async def apply(self, execution: Execution) -> dict[str, Any]:
        """Do it; return what was done, as a sentence under `done`."""


class Deciding(Action):
    """A decision about a tool call that waits."""

    call: str
    reason: str | None = None
    by: str | None = None
    """The person who decides; it is kept with the decision."""
    fingerprint: str | None = None
    """That of the call as it was shown: the decision counts for no other."""

    async def _decide(
        self, execution: Execution, verdict: Verdict, edited: dict[str, JSON] | None = None
    ) -> None:
        await execution.decide(
            self.call,
            verdict,
            self.reason or None,
            edited_arguments=edited,
            by=self.by or None,
            fingerprint=self.fingerprint,
        )


class Allow(Deciding):
    """Allow a tool call that waits, with other arguments if they are given."""

    arguments: str | None = None

    async def apply(self, execution: Execution) -> dict[str, Any]:
        edited = None if self.arguments is None else _object("the arguments", self.arguments)
        await self._decide(execution, "allow", edited)
        return {
            "done": "The call is allowed." if edited is None else "The call is allowed, with your arguments."
        }


class Deny(Deciding):
    """Deny a tool call that waits."""

    async def apply(self, execution: Execution) -> dict[str, Any]:
        await self._decide(execution, "deny")
        return {"done": "The call is denied."}


class AnswerQuestion(Action):
    """Answer a question of the workflow's code. The answer is JSON, as it was written."""

    key: str
    answer: str
    by: str | None = None

    async def apply(self, execution: Execution) -> dict[str, Any]:
        value = _value("the answer", self.answer)
        try:
            async with asyncio.timeout(UPDATE_SECONDS):
                await execution.answer(self.key, value, by=self.by or None)
        except TimeoutError:
            return {"done": "The answer is sent. No worker has taken it yet."}
        return {"done": "The question is answered."}


class Sending(Action):
    """A message to a handler of the execution. The arguments are a list, or an object by parameter name."""

    name: str = Field(min_length=1)
    arguments: str = "[]"

    def _given(self) -> tuple[list[JSON], dict[str, JSON]]:
        value = _value("the arguments", self.arguments.strip() or "[]")
        if isinstance(value, list):
            return value, {}
        if isinstance(value, dict):
            return [], value
        raise DefinitionError("the arguments must be a JSON list, or an object with the parameters by name")


class Signal(Sending):
    """Send a signal."""

    async def apply(self, execution: Execution) -> dict[str, Any]:
        positional, named = self._given()
        await execution.signal(self.name, *positional, **named)
        return {"done": f"The signal {self.name} is sent."}


class Query(Sending):
    """Ask a query handler."""

    changes: ClassVar = False

    async def apply(self, execution: Execution) -> dict[str, Any]:
        positional, named = self._given()
        answer = jsonable(await execution.query(self.name, *positional, **named))
        return {"done": f"The query {self.name} is answered.", "result": answer}


class Update(Sending):
    """Send an update, and wait for its answer. The same `update_id` again gives the same answer.

    If no worker answers in time, the id is returned under `update_id`.
    """

    update_id: str | None = None

    async def apply(self, execution: Execution) -> dict[str, Any]:
        positional, named = self._given()
        update_id = self.update_id or uuid.uuid4().hex
        # A parameter of the handler may be named `id`: the port's own goes before it.
        if "id" in named:
            raise DefinitionError('give the arguments as a list: the name "id" is that of the update')
        try:
            async with asyncio.timeout(UPDATE_SECONDS):
                answer = await execution.update(self.name, *positional, id=update_id, **named)
        except TimeoutError:
            return {
                "done": f"The update {self.name} is sent, and no worker has answered it yet. "
                "Send it again with the same id to get its answer.",
                "update_id": update_id,
            }
        return {"done": f"The update {self.name} is answered.", "result": jsonable(answer)}


class Cancel(Action):
    """Ask the execution to end."""

    async def apply(self, execution: Execution) -> dict[str, Any]:
        await execution.cancel()
        return {"done": "The execution is asked to end."}


class Terminate(Action):
    """End the execution at once."""

    reason: str = "from the inspector"

    async def apply(self, execution: Execution) -> dict[str, Any]:
        await execution.terminate(self.reason)
        return {"done": "The execution is terminated."}


class Pause(Action):
    """Let the execution begin no step until somebody resumes it."""

    reason: str = ""

    async def apply(self, execution: Execution) -> dict[str, Any]:
        is_new = await execution.pause(self.reason or None)
        return {"done": "The execution is asked to pause." if is_new else "It is paused already."}


class Resume(Action):
    """Let workers take an execution that is held."""

    async def apply(self, execution: Execution) -> dict[str, Any]:
        was_held = await execution.resume()
        return {
            "done": "The execution is resumed." if was_held else "It was not held, and goes on as before."
        }


class Tag(Action):
    """Add or replace tags; null removes one."""

    tags: dict[str, str | None] = Field(min_length=1)

    async def apply(self, execution: Execution) -> dict[str, Any]:
        await execution.tag(self.tags)
        return {"done": "The tags are changed."}


class Retry(Action):
    """Open an execution again that has ended."""

    again: bool = False

    async def apply(self, execution: Execution) -> dict[str, Any]:
        await execution.retry(again=self.again)
        return {"done": "The execution is open again."}


class Fork(Action):
    """Start an execution whose journal begins with that of this one."""

    at: int | None = None
    fork_id: str | None = None
    edits: dict[str, str] = Field(default_factory=dict)
    again: bool = False

    async def apply(self, execution: Execution) -> dict[str, Any]:
        edits = {key: _value(f"the result of {key}", text) for key, text in self.edits.items()}
        forked = await execution.fork(
            at=self.at, id=self.fork_id or None, edits=edits or None, again=self.again
        )
        return {"done": "The fork is started.", "id": forked.id}


ACTIONS: Final[Mapping[str, type[Action]]] = {
    "allow": Allow,
    "deny": Deny,
    "answer": AnswerQuestion,
    "signal": Signal,
    "query": Query,
    "update": Update,
    "cancel": Cancel,
    "terminate": Terminate,
    "pause": Pause,
    "resume": Resume,
    "tag": Tag,
    "retry": Retry,
    "fork": Fork,
}


def acting(
    backend: Backend, action: type[Action], *, read_only: bool
) -> Callable[[Request], Awaitable[Response]]:
    """Return the answer to requests for an action; with `read_only`, it refuses what changes something."""

    async def act(request: Request) -> Response:
        if read_only and action.changes:
            message = "This inspector only reads: it was started with --read-only."
            return json({"error": {"kind": "ReadOnly", "message": message, "retryable": False}}, 403)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            message = "An action is a JSON document (Content-Type: application/json)."
            return json({"error": {"kind": "NotJson", "message": message, "retryable": False}}, 415)
        try:
            body = await _body(request)
            if body is None:
                message = (
                    f"A request to the inspector has at most {BODY_BYTES_MAX:,} bytes. Send it from Python."
                )
                return json({"error": {"kind": "TooLarge", "message": message, "retryable": False}}, 413)
            wanted = action.model_validate(_value("the request", body))
        except ValidationError as error:
            raise DefinitionError(f"the request does not fit: {'; '.join(faults(error))}") from None
        return json(await wanted.apply(await backend.get(wanted.id)))

    return act


async def _body(request: Request) -> bytes | None:
    """Return the body of a request; None if it is too large."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            return None
    return bytes(body)


def _value(what: str, text: str | bytes) -> JSON:
    try:
        value: JSON = decode(text)
        check_json(value)
    except ValueError as error:
        raise DefinitionError(f"{what} cannot be read as JSON: {error}") from None
    return value


def _object(what: str, text: str) -> dict[str, JSON]:
    value = _value(what, text)
    if not isinstance(value, dict):
        raise DefinitionError(f"{what} must be a JSON object, with the parameters by name")
    return value
