"""Requests that read: executions in pages, workers, the inbox, one execution, its events and records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from outlast.core.errors import DefinitionError, NotPending, NotSupported
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution
from outlast.ports.durability.pending import inbox_of
from outlast.web.answers import json
from outlast.web.channels import Channels
from outlast.web.documents import (
    approval_document,
    event_document,
    execution_document,
    listed_document,
    machine_document,
    question_document,
    record_document,
    rerun_document,
    searched_texts,
    worker_document,
)
from outlast.web.filtering import where_of
from outlast.web.following import EventStreamResponse

PAGE = 100
"""The executions, or records, of one answer."""
INBOX_EXECUTIONS_MAX = 200
"""The executions that run, and those that are paused, from the newest on, whose calls are looked for."""


class Reading:
    """The requests that change nothing."""

    def __init__(
        self, backend: Backend, *, title: str, user: str, read_only: bool, actions: Iterable[str]
    ) -> None:
        self._backend = backend
        self._channels = Channels()
        self._about = {
            "title": title,
            "user": user,
            "read_only": read_only,
            "actions": list(actions),
            "machine": machine_document(),
        }

    async def about(self, request: Request) -> Response:
        """Answer with facts about the inspector."""
        return json(self._about)

    async def fleet(self, request: Request) -> Response:
        """Answer with a page of executions, the newest first, and the cursor of the next one."""
        found = await self._backend.list(
            where_of(request.query_params),
            limit=min(_number(request, "limit", PAGE), PAGE),
            cursor=request.query_params.get("cursor") or None,
        )
        shown = await self._backend.with_overviews(found)
        return json({"executions": [listed_document(one) for one in shown], "cursor": found.cursor})

    async def workers(self, request: Request) -> Response:
        """Answer with the workers that are alive; `note` says so if the backend does not know them."""
        try:
            return json({"workers": [worker_document(one) for one in await self._backend.workers()]})
        except NotSupported as error:
            return json({"workers": [], "note": str(error)})

    async def inbox(self, request: Request) -> Response:
        """Answer with the calls and the questions that wait for a person, over all executions."""
        found = await inbox_of(self._backend, limit=INBOX_EXECUTIONS_MAX)
        waiting = [approval_document(id, call) for id, call in found.calls]
        return json(
            {
                "approvals": waiting,
                "questions": [question_document(id, question) for id, question in found.questions],
                "looked_at": INBOX_EXECUTIONS_MAX,
                "is_all": found.is_all,
            }
        )

    async def approval(self, request: Request) -> Response:
        """Answer with one call that waits, whole, by the key of the call."""
        execution, key = await self._execution(request), request.query_params.get("call", "")
        waiting = await execution.pending()
        for one in waiting:
            if one.key == key:
                return json(approval_document(execution.id, one, whole=True))
        raise NotPending(execution.id, key, [one.key for one in waiting])

    async def rerun(self, request: Request) -> Response:
        """Answer with what a retry of an execution would do again: names of steps, or why it cannot be."""
        execution = await self._execution(request)
        records = [record async for record in execution.records()]
        return json(rerun_document(execution.id, records))

    async def execution(self, request: Request) -> Response:
        """Answer with one execution as it stands. The page finds the calls that wait in the events."""
        execution = await self._execution(request)
        return json(execution_document(await execution.describe()))

    async def events(self, request: Request) -> EventStreamResponse:
        """Answer with the events from a position on, as they come, to the execution's end."""
        execution = await self._execution(request)
        last = request.headers.get("last-event-id")
        after = _number(request, "after", 0) if last is None else _read_number("Last-Event-ID", last)
        return EventStreamResponse(self._channels.messages(execution.id, execution.events, after))

    async def event(self, request: Request) -> Response:
        """Answer with one event, whole."""
        execution, position = await self._execution(request), _number(request, "position", 1)
        async for event in execution.events(position - 1, follow=False):
            if event.position == position:
                return json(event_document(event, whole=True))
        raise DefinitionError(f"there is no event at position {position}")

    async def records(self, request: Request) -> Response:
        """Answer with a page of the journal's records; with `search`, of those that have this text."""
        execution, after = await self._execution(request), _number(request, "after", 0)
        search = request.query_params.get("search", "").casefold()
        limit = min(_number(request, "limit", PAGE), PAGE)
        found: list[dict[str, Any]] = []
        position = 0
        async for record in execution.records():
            position += 1
            if position <= after or len(found) > limit:
                continue
            if not search or any(search in text.casefold() for text in searched_texts(record)):
                found.append(record_document(position, record, whole=limit == 1))
        return json({"records": found[:limit], "more": len(found) > limit, "length": position})

    async def export(self, request: Request) -> Response:
        """Answer with the execution as a file that `outlast import` takes."""
        execution = await self._execution(request)
        text = "".join(f"{line}\n" for line in await execution.export())
        headers = {
            "Content-Disposition": 'attachment; filename="execution.jsonl"',
            "Cache-Control": "no-store",
        }
        return Response(text, media_type="application/jsonl", headers=headers)

    async def _execution(self, request: Request) -> Execution:
        return await self._backend.get(request.query_params.get("id", ""))


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    return default if text is None else _read_number(name, text)


def _read_number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise DefinitionError(f"{name} must be a number, from 0 on")
    return int(text)
