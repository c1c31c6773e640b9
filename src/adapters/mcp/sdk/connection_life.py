"""One life of a connection: a task that opens a client, keeps it and closes it. Several calls share it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from itertools import islice
from typing import NoReturn

import anyio
from anyio.abc import TaskStatus
from mcp import Client, MCPError
from mcp.client import InputRequiredRoundsExceededError
from mcp.client.session import IncomingMessage
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.types import REQUEST_TIMEOUT, CallToolResult, ToolListChangedNotification
from pydantic import ValidationError

from outlast.adapters.mcp.limits import CALL_GRACE_SECONDS, TOOLS_MAX
from outlast.adapters.mcp.sdk.client import McpExchange, ServerObserver, current_exchange, open_client
from outlast.adapters.mcp.sdk.content import error_output, output_of
from outlast.adapters.mcp.sdk.failures import (
    GONE,
    UNREADABLE,
    bounded,
    is_answer,
    leaves_of,
    of_status,
    opening_failure,
)
from outlast.adapters.mcp.sdk.offered_tools import ListedTool, OfferedTools
from outlast.adapters.mcp.sdk.server_output import LineLog
from outlast.adapters.mcp.sdk.tool_list import LEFT_OUT_MAX, ToolsRead, read_tools
from outlast.adapters.mcp.secrets import Redaction, resolved
from outlast.adapters.mcp.server import McpServer, NotSent
from outlast.core.errors import (
    ActivityTimedOut,
    OutlastError,
    ToolServerError,
    ToolServerUnavailable,
)
from outlast.core.json import JSON
from outlast.core.values import faults
from outlast.ports.tools import ToolOutput

logger = logging.getLogger("outlast.mcp")

IDLE_SECONDS = 600.0
LIST_SECONDS = 300.0
"""The age at which a list of tools is read again. A server that reports changes can cause it earlier."""
DOUBT_SECONDS = 10.0
"""The age at which it is read again after a call has failed: an unreported change may be the reason."""
CLOSING_SECONDS = 10.0
ENDING_SECONDS = 1.0
"""The time to wait for the reason why a connection was lost."""
NAMES_MAX = 20 * TOOLS_MAX
"""The number of different tools that may be listed over one connection."""
IN_DOUBT = "during the call of {!r}, which may or may not have taken effect"
NOT_TAKEN = frozenset({400, 404, 410})
"""The statuses of a server that does not know this connection, or no longer; the call has not run."""


class Life:
    """One life of a connection. It begins to open when it is created."""

    def __init__(self, server: McpServer) -> None:
        loop = asyncio.get_running_loop()
        self._server = server
        self._client: Client | None = None
        self._log = LineLog(server.name, Redaction())
        self._observer = ServerObserver(
            self._log,
            on_start=self._started,
            on_message=self._take_message,
            on_end=self._server_ended,
            on_refusal=self._refuse,
        )
        self._offered: OfferedTools | None = None
        self._listing = asyncio.Lock()
        self._listed_at = -math.inf
        self._error: BaseException | None = None
        self._refusal: ToolServerError | None = None
        """Why nothing more is read of what the server sends."""
        self._names: set[str] = set()
        """The names of all tools that were ever listed; the SDK keeps something for each."""
        self._calls = 0
        self._used_at = loop.time()
        self._leave = asyncio.Event()
        self._scope = anyio.CancelScope()
        self._has_started = False
        self.retired = False
        """True if new calls must use another life."""
        self.failed = False
        """True if the connection could not be opened, or was lost."""
        self.ready: asyncio.Future[None] = loop.create_future()
        self.task = asyncio.create_task(self._run(), name=f"MCP server {server.name}")

    # The task

    async def _run(self) -> None:
        exchange = McpExchange(self._log.redaction, scope=self._scope)
        current_exchange.set(exchange)
        try:
            with self._scope:
                values = resolved(self._server.secrets, self._server.name)
                exchange.redaction = self._log.redaction = Redaction.of(self._server.secrets, values)
                async with (
                    open_client(self._server, values, self._observer) as self._client,
                    anyio.create_task_group() as listening,
                ):
                    # Listen before listing, so that no change in between is missed.
                    await listening.start(self._listen)
                    await self._list()
                    exchange.scope = None
                    self._scope.deadline = math.inf
                    self._used_at = asyncio.get_running_loop().time()
                    self.ready.set_result(None)
                    await self._until_left()
                    self._scope.deadline = anyio.current_time() + CLOSING_SECONDS
                    listening.cancel_scope.cancel()
        except Exception as raised:
            if self._error is None:
                self._error = raised
        finally:
            self._end(exchange)

    def _started(self) -> None:
        """Set the deadline for opening; from now on the opening may be cancelled."""
        self._has_started = True
        self._scope.deadline = anyio.current_time() + self._server.opening_seconds
        if self._leave.is_set():
            self._scope.cancel()

    async def _listen(self, *, task_status: TaskStatus[None]) -> None:
        """Subscribe to changes of the list, if the server offers that, and note them.

        Older servers report changes to every client, without a subscription (`_take_message`). If a server
        does neither, the list is read again after `LIST_SECONDS`.
        """
        assert self._client is not None
        tools = self._client.server_capabilities.tools
        is_listening = False
        try:
            if tools is not None and tools.list_changed:
                async with self._client.listen(tools_list_changed=True) as changes:
                    is_listening = True
                    task_status.started()
                    async for _ in changes:
                        self._listed_at = -math.inf
        except (ListenNotSupportedError, MCPError, SubscriptionLost, TimeoutError, *GONE) as error:
            logger.debug("MCP server %s: changes of tools are not reported: %r", self._server.name, error)
        if not is_listening:
            task_status.started()

    async def _until_left(self) -> None:
        """Return when the life must end, or when there was no call for `IDLE_SECONDS`."""
        while not self._leave.is_set():
            idle = asyncio.get_running_loop().time() - self._used_at
            if idle >= IDLE_SECONDS and not self._calls:
                self.retired = True
                return
            with anyio.move_on_after(max(IDLE_SECONDS - idle, 1.0)):
                await self._leave.wait()

    def _end(self, exchange: McpExchange) -> None:
        error = self._error
        name, place = self._server.name, self._server.place
        self.retired = True
        if self.ready.done():
            if error is not None:
                self.failed = True
                reason = bounded(self._log.redaction.text(", ".join(map(repr, leaves_of(error)))))
                logger.warning("MCP server %s: the connection was lost: %s", name, reason)
            return
        self.failed = True
        failure: OutlastError
        if error is None and self._leave.is_set():
            failure = ToolServerUnavailable(name, "this worker is stopping")
        elif error is None and exchange.status is None and exchange.error is None:
            seconds = self._server.opening_seconds
            problem = f"{place} did not answer within {seconds:g} s; check what it does, or raise timeout"
            failure = ToolServerUnavailable(name, problem)
        else:
            failure = opening_failure(name, place, error, exchange, self._observer)
        if failure is not error:
            failure.__cause__ = error
        self.ready.set_exception(failure)
        self.ready.exception()  # Marks the exception as retrieved: there may be no caller that waits.

    def end(self) -> None:
        """End this life now, also if calls are under way."""
        self.retired = True
        self._leave.set()
        if self._has_started and not self.ready.done():
            self._scope.cancel()

    def retire(self) -> None:
        """Accept no new calls; end when the calls that are under way have ended."""
        self.retired = True
        if not self._calls:
            self._leave.set()

    def _server_ended(self) -> None:
        if self.ready.done() and not self.retired:
            output = " / ".join(self._log.last_lines)
            logger.warning(
                "MCP server %s: its process has ended; its last output was: %s", self._server.name, output
            )
            self._retire_as_failed()

    def _refuse(self, problem: str) -> None:
        """End this life now: nothing more is read of what the server sends."""
        self._error = self._refusal = ToolServerError(self._server.name, problem)
        self._retire_as_failed()
        self.end()

    async def _take_message(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._listed_at = -math.inf

    # For callers

    async def listed(self) -> OfferedTools:
        """Return the tools. The list is read again if it is old, or if the server has reported a change."""
        self._used_at = asyncio.get_running_loop().time()
        if self._offered is not None and not self._is_old():
            return self._offered
        async with self._listing:
            if self._is_old():
                await self._list_again()
        assert self._offered is not None
        return self._offered

    def _is_old(self) -> bool:
        return asyncio.get_running_loop().time() - self._listed_at > LIST_SECONDS

    def _doubt_list(self) -> None:
        """Have the list read again before the next call: after an error, a tool may have changed."""
        if asyncio.get_running_loop().time() - self._listed_at > DOUBT_SECONDS:
            self._listed_at = -math.inf

    async def _list(self) -> None:
        assert self._client is not None
        # Taken before the request: the list may not have a change that is reported from now on.
        self._listed_at = asyncio.get_running_loop().time()
        read = await read_tools(self._client, self._server)
        before = self._offered
        self._offered = await asyncio.to_thread(OfferedTools, self._server, read, self._log.redaction, before)
        self._log_left_out(read, {} if before is None else before.left_out, is_first=before is None)
        self._names |= {tool.name for tool in read.tools}
        if len(self._names) > NAMES_MAX:
            self.retire()

    def _log_left_out(self, read: ToolsRead, before: Mapping[str, str], *, is_first: bool) -> None:
        assert self._offered is not None
        new = self._offered.left_out.items() - before.items()
        for tool, why in islice(sorted(new), LEFT_OUT_MAX):
            logger.warning("MCP server %s: tool %r is left out: %s", self._server.name, tool, why)
        if len(new) > LEFT_OUT_MAX:
            logger.warning(
                "MCP server %s: %d more tools are left out", self._server.name, len(new) - LEFT_OUT_MAX
            )
        if read.excess is not None and is_first:
            logger.warning("MCP server %s: %s; the others are left out", self._server.name, read.excess)

    async def _list_again(self) -> None:
        """Read the list of tools again, on an open connection."""
        exchange = McpExchange(self._log.redaction, sent=True)
        current_exchange.set(exchange)
        self._begin()
        try:
            with anyio.fail_after(self._server.opening_seconds) as exchange.scope:
                await self._list()
                return
            raise anyio.EndOfStream  # The scope was cancelled: no answer can come any more.
        except OutlastError:
            raise
        except Exception as error:
            self._retire_as_failed()
            raise opening_failure(
                self._server.name, self._server.place, error, exchange, self._observer
            ) from error
        finally:
            self._finish()

    async def call(self, tool: str, arguments: dict[str, JSON], known: str | None) -> ToolOutput:
        """Call a tool once. It also raises the errors of `ServerConfig.call`.

        Raises:
            NotSent: the connection has ended, and the call was not sent.
        """
        offered = await self.listed()
        if tool not in offered:
            await self._list_again()
            offered = await self.listed()
        listed = offered[tool]
        listed.check(arguments, known)
        output = await self._answer(listed, arguments)
        if output.is_error:
            self._doubt_list()
        return output if known in (None, listed.fingerprint) else output.with_(changed=listed.spec)

    async def _answer(self, listed: ListedTool, arguments: dict[str, JSON]) -> ToolOutput:
        tool = listed.spec.name
        if self.retired or self._client is None:
            raise NotSent("the connection has ended")
        exchange = McpExchange(self._log.redaction, sent=not self._server.over_http)
        before = current_exchange.set(exchange)
        deadline = anyio.current_time() + self._server.call_seconds + CALL_GRACE_SECONDS
        self._begin()
        try:
            with anyio.CancelScope(deadline=deadline) as exchange.scope:
                result = await self._client.call_tool(
                    listed.remote, arguments, read_timeout_seconds=self._server.call_seconds
                )
                return self._output_of(listed, result)
            if anyio.current_time() >= deadline:
                # The SDK's own timeout begins when the server has taken the request. This one has not.
                self._retire_as_failed()
                raise ActivityTimedOut(tool, "call_timeout", self._server.call_seconds)
            await self._raise_lost(tool, exchange, None)
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT and exchange.error is None and exchange.status is None:
                raise ActivityTimedOut(tool, "call_timeout", self._server.call_seconds) from error
            if exchange.problem is not None or error.message.startswith(UNREADABLE):
                problem = f"the answer was refused: {exchange.problem or error.message}"
                raise ToolServerError(
                    self._server.name,
                    f"{bounded(self._log.redaction.text(problem))}, {IN_DOUBT.format(tool)}",
                ) from error
            if is_answer(error, exchange):
                return error_output(error.message, self._log.redaction)
            await self._raise_lost(tool, exchange, error)
        except GONE as error:
            await self._raise_lost(tool, exchange, error)
        except ValidationError as error:
            # Not an error for a retry: the tool has run, and the server would write the same answer again.
            message = f"the answer of the tool is not valid MCP: {'; '.join(faults(error)[:3])}"
            return error_output(message, self._log.redaction)
        except (RuntimeError, InputRequiredRoundsExceededError) as error:
            return error_output(bounded(str(error)), self._log.redaction)
        finally:
            current_exchange.reset(before)
            self._finish()

    def _output_of(self, listed: ListedTool, result: CallToolResult) -> ToolOutput:
        if not result.is_error and (fault := listed.fault_of_result(result.structured_content)):
            return error_output(bounded(fault), self._log.redaction)
        return output_of(result, self._log.redaction)

    def _begin(self) -> None:
        self._calls += 1
        self._used_at = asyncio.get_running_loop().time()

    def _finish(self) -> None:
        self._calls -= 1
        self._used_at = asyncio.get_running_loop().time()
        if self.retired and not self._calls:
            self._leave.set()

    def _retire_as_failed(self) -> None:
        self.failed = True
        self.retire()

    async def _raise_lost(self, tool: str, exchange: McpExchange, error: Exception | None) -> NoReturn:
        """Raise the error for a call that got no answer."""
        name, place = self._server.name, self._server.place
        self._retire_as_failed()
        if exchange.sent and self._server.over_http:
            # The connection may end before the request does; wait for the outcome of the request.
            with anyio.move_on_after(ENDING_SECONDS):
                await exchange.over.wait()
        if exchange.status in NOT_TAKEN:
            raise NotSent(f"{place} answered with status {exchange.status}") from error
        if not exchange.sent:
            reason = "" if exchange.error is None else f": {exchange.error}"
            unreachable = f"{place} cannot be reached{reason}"
            raise NotSent(bounded(self._log.redaction.text(unreachable))) from error
        if exchange.status is not None:
            kind, problem = of_status(exchange.status, place)
        elif exchange.problem is not None:
            kind, problem = ToolServerError, f"the answer was refused: {exchange.problem},"
        elif self._refusal is not None:
            kind, problem = ToolServerError, f"{self._refusal.problem},"
        else:
            kind, problem = ToolServerUnavailable, "the connection was lost"
            if isinstance(error, MCPError) and error.message != "Connection closed":
                problem += f" ({error.message})"
        problem = bounded(self._log.redaction.text(problem))
        raise kind(name, f"{problem} {IN_DOUBT.format(tool)}") from error
