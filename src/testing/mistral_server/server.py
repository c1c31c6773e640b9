"""The server itself: a thread with its own event loop, which listens on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from uvicorn.config import Config
from uvicorn.server import ServerState

from outlast.testing.mistral_server.agents import Agents
from outlast.testing.mistral_server.answers import Oracle
from outlast.testing.mistral_server.chat import Chat
from outlast.testing.mistral_server.conversations import Conversations, StandInConversation
from outlast.testing.mistral_server.faults import Faults
from outlast.testing.mistral_server.identity import Identifiers, StandInClock
from outlast.testing.mistral_server.listening import stop_accepting
from outlast.testing.mistral_server.model import Json, Model
from outlast.testing.mistral_server.routes import RefusesModels, Routes
from outlast.testing.mistral_server.wire import ClientConnection, RecordedExchange, RecordedRequest, Wire

MODELS = ("mistral-large-latest", "mistral-medium-latest", "mistral-small-latest")

IDLE_SECONDS_MAX = 3600
"""How long a connection may be idle before the server closes it."""


class MistralServer:
    """An imitation of Mistral's cloud on a loopback port, driven by `model`.

    Works as `with` and as `async with`; it never touches the caller's event loop. Identifiers, times and
    token counts are the same in every run, as long as conversations are started in the same order. State
    survives `stop` and `start`, which come back on the same port: that is a restart of the server.

    `inputs_visible_at_once`: whether the history shows the inputs of a request while its outputs do not exist
    yet, or both together. `metadata_filter_works`: whether listing conversations heeds the `metadata`
    parameter. `refuses_unknown_models`: whether a model that is not among `models` is refused when an agent
    is made or changed, or only when it is asked for a reply. `on_exchange` is called, on the server's thread,
    with every complete request and response.
    """

    def __init__(
        self,
        model: Model,
        *,
        api_key: str = "test-key",
        models: Sequence[str] = MODELS,
        port: int = 0,
        seed: int = 0,
        inputs_visible_at_once: bool = False,
        metadata_filter_works: bool = True,
        refuses_unknown_models: RefusesModels = "never",
        on_exchange: Callable[[RecordedExchange], None] | None = None,
    ) -> None:
        self.api_key = api_key
        self.faults = Faults()
        self.requests: list[RecordedRequest] = []
        self.errors: list[BaseException] = []
        self.on_exchange = on_exchange
        self._port = port
        clock = StandInClock()
        identifiers = Identifiers(seed)
        oracle = Oracle(model, self.errors)
        self._agents = Agents(identifiers, clock)
        self._conversations = Conversations(
            self._agents,
            oracle,
            identifiers,
            clock,
            inputs_visible_at_once=inputs_visible_at_once,
            metadata_filter_works=metadata_filter_works,
        )
        routes = Routes(
            self._agents,
            self._conversations,
            Chat(oracle, identifiers, clock),
            clock,
            api_key=api_key,
            models=models,
            refuses_unknown_models=refuses_unknown_models,
        )
        self._wire = Wire(routes.application(), self.faults, self.requests, self._report, self.errors)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """What to give to a client as `server_url`."""
        if not self._port:
            raise RuntimeError("the server has no address yet: enter it with `with`, or call start()")
        return f"http://127.0.0.1:{self._port}"

    @property
    def agents(self) -> dict[str, Json]:
        """Every agent as the API would show it now, by id, oldest first."""
        return self._agents.shown()

    @property
    def conversations(self) -> dict[str, StandInConversation]:
        """Every stored conversation by id, oldest first. Read them, do not change them."""
        return dict(self._conversations.stored)

    def raise_errors(self) -> None:
        """Raise what went wrong inside the imitation: a script used up, a model function that failed."""
        if self.errors:
            raise BaseExceptionGroup("the imitated cloud had errors", list(self.errors))

    async def settled(self) -> None:
        """Return once no conversation is being worked on, whether or not its client is still there."""
        if self._loop is None:
            raise RuntimeError("the server is not running")
        work = asyncio.run_coroutine_threadsafe(self._conversations.settled(), self._loop)
        await asyncio.wrap_future(work)

    def forget(self) -> None:
        """Forget every agent, conversation and request: what was asked last must have been answered.

        Lists get long otherwise where one server serves thousands of tests.
        """
        self._agents.clear()
        self._conversations.stored.clear()
        self.requests.clear()

    def start(self) -> None:
        """Listen. Requests are accepted once this returns."""
        if self._thread is not None:
            raise RuntimeError("the server is running already")
        # asyncio turns Nagle's algorithm off only where the protocol is named; else each answer takes 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self._port))
        except OSError:
            listener.close()
            raise
        listener.listen(512)
        self._port = listener.getsockname()[1]
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(listener, started), name="mistral-server", daemon=True
        )
        self._thread.start()
        started.wait()

    def stop(self) -> None:
        """Cut every connection, give up unfinished work and free the port. Does nothing if not running."""
        thread, loop, stopping = self._thread, self._loop, self._stopping
        if thread is None or loop is None or stopping is None:
            return
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        self._thread = self._loop = self._stopping = None

    def __enter__(self) -> MistralServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> MistralServer:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _run(self, listener: socket.socket, started: threading.Event) -> None:
        try:
            asyncio.run(self._serve(listener, started))
        finally:
            started.set()

    async def _serve(self, listener: socket.socket, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        config = Config(
            self._wire,
            interface="asgi3",
            lifespan="off",
            ws="none",
            proxy_headers=False,
            log_config=None,
            # To close an idle connection just when a client writes to it is a fault that no test asked for.
            timeout_keep_alive=IDLE_SECONDS_MAX,
        )
        config.load()
        state = ServerState()
        server = await self._loop.create_server(
            lambda: ClientConnection(config, state, {}), sock=listener, backlog=512
        )
        started.set()
        await self._stopping.wait()
        await stop_accepting(server)
        for connection in list(state.connections):
            if isinstance(connection, ClientConnection):
                connection.cut()
        await asyncio.sleep(0)  # lets each connection notice, so that none answers its cancelled request
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)

    def _report(self, exchange: RecordedExchange) -> None:
        if self.on_exchange is None:
            return
        try:
            self.on_exchange(exchange)
        except Exception as error:
            self.errors.append(error)


def serve(model: Model, *, port: int = 0) -> None:
    """Serve until interrupted, printing the address first: for a process of its own."""
    with MistralServer(model, port=port) as server:
        print(f"{server.url} (api key {server.api_key})", flush=True)
        threading.Event().wait()
