"""Finding executions in Temporal's visibility store: filters as queries, pages by the server's own tokens.

The server decides the order of its list: what is open comes first, the newest start before others, and then
what was closed last. There is no way to ask for another one that all visibility stores offer.
"""

from __future__ import annotations

import asyncio
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from outlast.adapters.temporal.memo import is_held
from outlast.adapters.temporal.search_attributes import TAGS, is_missing, keyword_of, not_registered
from outlast.adapters.temporal.visibility import beginning, begins_like, quoted
from outlast.core.errors import DefinitionError, NotSupported
from outlast.core.records import Status
from outlast.ports.finding import Where
from outlast.ports.journal import is_id

_VISIBLE = {
    Status.RUNNING: "ExecutionStatus = 'Running'",
    Status.PAUSED: "ExecutionStatus = 'Running'",
    Status.COMPLETED: "ExecutionStatus = 'Completed'",
    Status.CANCELLED: "ExecutionStatus = 'Canceled'",
    Status.FAILED: "ExecutionStatus IN ('Failed', 'TimedOut')",
    Status.TERMINATED: "ExecutionStatus = 'Terminated'",
}


async def find(
    client: Client, where: Where, limit: int, cursor: str | None
) -> tuple[list[WorkflowExecution], str | None]:
    """Return up to `limit` executions, and the cursor for those after them; the last page may be empty.

    Raises:
        NotSupported: Temporal cannot find by something in the filter.
        DefinitionError: it is not a cursor.
    """
    token = None if cursor is None else _token(cursor)
    if not _can_be_text(where):
        return [], None
    query = " AND ".join(_conditions(where))
    found: list[WorkflowExecution] = []
    while len(found) < limit:
        # A page has at most as many as are wanted, so that the next token is the right cursor.
        page = client.list_workflows(query, page_size=limit - len(found), next_page_token=token)
        try:
            await page.fetch_next_page()
        except RPCError as error:
            if where.tags and is_missing(error):
                raise not_registered(client.namespace, "filters by tags") from error
            raise
        meant = [one for one in page.current_page or () if _is_meant(one, where)]
        newest = await asyncio.gather(*(_is_newest(client, one) for one in meant))
        found += [one for one, is_newest in zip(meant, newest, strict=True) if is_newest]
        token = page.next_page_token
        if token is None:
            break
    return found, None if token is None else _cursor(token)


def _can_be_text(where: Where) -> bool:
    """Return whether an execution can have such a name and id: the server refuses other text."""
    return all(text is None or is_id(text) for text in (where.workflow, where.id_prefix or None))


def _conditions(where: Where) -> list[str]:
    """Return the conditions of a query; it may find more than what is meant."""
    if where.waiting_for is not None:
        raise NotSupported(
            "Temporal does not know what an execution waits for: leave waiting_for out, and look at the "
            "descriptions"
        )
    # If an execution continues as new, only its last run counts.
    conditions = ["ExecutionStatus != 'ContinuedAsNew'"]
    if where.status is not None:
        conditions.append(_VISIBLE[Status(where.status)])
    if where.workflow is not None:
        conditions += begins_like("WorkflowType", where.workflow)
    if where.id_prefix:
        conditions += beginning("WorkflowId", where.id_prefix)
    if where.created_after is not None:
        conditions.append(f"StartTime >= '{_written(where.created_after)}'")
    if where.created_before is not None:
        conditions.append(f"StartTime < '{_written(where.created_before)}'")
    conditions += [f"{TAGS.name} = {quoted(keyword_of(*tag))}" for tag in where.tags.items()]
    return conditions


def _is_meant(one: WorkflowExecution, where: Where) -> bool:
    # The server does not find by the memo.
    if where.status in (Status.RUNNING, Status.PAUSED) and is_held(one) != (where.status is Status.PAUSED):
        return False
    return where.workflow in (None, one.workflow_type) and one.id.startswith(where.id_prefix or "")


async def _is_newest(client: Client, one: WorkflowExecution) -> bool:
    """Return whether no retry has taken the place of a run; only what ended without a result is retried."""
    if one.status in (WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.COMPLETED):
        return True
    try:
        newest = await client.get_workflow_handle(one.id).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return True  # It was deleted just now.
    return newest.run_id == one.run_id


def _written(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _cursor(token: bytes) -> str:
    """Return a cursor. It has a check sum, since servers answer a wrong token with an endless retry."""
    check = zlib.crc32(token).to_bytes(4)
    return urlsafe_b64encode(check + token).decode().rstrip("=")


def _token(cursor: str) -> bytes:
    try:
        written = urlsafe_b64decode(f"{cursor}===")
    except (ValueError, TypeError):
        written = b""
    check, token = written[:4], written[4:]
    if not token or zlib.crc32(token).to_bytes(4) != check:
        raise DefinitionError(
            f"{str(cursor)[:40]!r} is not a cursor; use that of the page before, or none for the first page"
        )
    return token
