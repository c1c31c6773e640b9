"""Requests that read: executions in pages, workers, the inbox, one execution, its events and records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from outlast.core.errors import DefinitionError, NotSupported
from outlast.core.json import encode
from outlast.core.records import Status
from outlast.ports.durability.backend import Backend
from outlast.ports.durability.execution import Execution
from outlast.ports.finding import Where
from outlast.web.answers import json
from outlast.web.documents import (
    approval_document,
    event_document,
    execution_document,
    record_document,
    worker_document,
)
from outlast.web.following import EventStreamResponse, messages_of

PAGE = 100
"""The executions, or records, of one answer."""
INBOX_EXECUTIONS_MAX = 200
"""The running executions, from the newest on, whose calls are looked for."""


class Reading:
    """The requests that change nothing."""

    def __init__(self, backend: Backend, *, title: str, read_only: bool, actions: Iterable[str]) -> None:
        self._backend = backend
        self._about = {"title": title, "read_only": read_only, "actions": list(actions)}

    async def about(self, request: Request) -> Response:
        """Answer with facts about the inspector."""
        return json(self._about)

    async def fleet(self, request: Request) -> Response:
        """Answer with a page of executions, the newest first, and the cursor of the next one."""
        where = Where(
            workflow=request.query_params.get("workflow") or None,
            status=request.query_params.get("status") or None,
        )
        found = await self._backend.list(
            where,
            limit=min(_number(request, "limit", PAGE), PAGE),
            cursor=request.query_params.get("cursor") or None,
        )
        return json({"executions": [execution_document(one) for one in found], "cursor": found.cursor})

    async def workers(self, request: Request) -> Response:
        """Answer with the workers that are alive; `note` says so if the backend does not know them."""
        try:
            return json({"workers": [worker_document(one) for one in await self._backend.workers()]})
        except NotSupported as error:
            return json({"workers": [], "note": str(error)})

    async def inbox(self, request: Request) -> Response:
        """Answer with the calls that wait for a person, over all executions."""
        pages = [
            await self._backend.list(Where(status=status), limit=INBOX_EXECUTIONS_MAX)
            for status in (Status.RUNNING, Status.PAUSED)
        ]
        found = [one for page in pages for one in page]
        is_all = all(page.cursor is None for page in pages)
        waiting: list[dict[str, Any]] = []
        for one in found:
            execution = await self._backend.get(one.id)
            waiting += [approval_document(one.id, call) for call in await execution.pending()]
        return json({"approvals": waiting, "looked_at": len(found), "is_all": is_all})

    async def execution(self, request: Request) -> Response:
        """Answer with one execution as it stands. The page finds the calls that wait in the events."""
        execution = await self._execution(request)
        return json(execution_document(await execution.describe()))

    async def events(self, request: Request) -> EventStreamResponse:
        """Answer with the events from a position on, as they come, to the execution's end."""
        execution = await self._execution(request)
        last = request.headers.get("last-event-id")
        after = _number(request, "after", 0) if last is None else _read_number("Last-Event-ID", last)
        return EventStreamResponse(messages_of(execution.events(after)))

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
            document = record_document(position, record, whole=limit == 1)
            if not search or search in encode(document["record"]).decode().casefold():
                found.append(document)
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
