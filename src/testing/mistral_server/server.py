"""The server: a thread with its own event loop that listens on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType

from uvicorn.config import Config
from uvicorn.server import ServerState

from outlast.testing.mistral_server.agents import Agents
from outlast.testing.mistral_server.answers import ModelCaller
from outlast.testing.mistral_server.chat import Chat
from outlast.testing.mistral_server.conversations import Conversations, StandInConversation
from outlast.testing.mistral_server.faults import Faults
from outlast.testing.mistral_server.identity import Identifiers, StandInClock
from outlast.testing.mistral_server.listening import stop_accepting
from outlast.testing.mistral_server.model import Json, Model, Script, ScriptedModel
from outlast.testing.mistral_server.routes import RefusesModels, Routes
from outlast.testing.mistral_server.wire import ClientConnection, RecordedExchange, RecordedRequest, Wire

MODELS = ("mistral-large-latest", "mistral-medium-latest", "mistral-small-latest")

IDLE_SECONDS_MAX = 3600
"""The time for which a connection may be idle before the server closes it."""


class MistralServer:
    """A stand-in for Mistral's API on a loopback port. `model` makes the replies.

    Use it with `with` or `async with`; it never uses the event loop of the caller. Identifiers, times and
    token counts are the same in every run if conversations are started in the same order. After `stop` and
    `start` the server has the same state and the same port, like a server that was restarted.

    Args:
        model: Makes the replies.
        api_key: The only key that the server accepts.
        models: The models that the server has.
        port: The port to listen on; 0 means any free port.
        seed: Servers with different seeds make different identifiers.
        inputs_visible_at_once: Whether the history shows the inputs of a request at once, or only together
            with its outputs.
        metadata_filter_works: Whether the parameter `metadata` filters the list of conversations.
        refuses_unknown_models: When a model that is not in `models` is refused: when an agent with it is made
            or changed, when a reply of it is asked for, or never.
        on_exchange: Called in the thread of the server with every complete request and response.
    """

    def __init__(
        self,
        model: Model | Script,
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
        caller = ModelCaller(model if callable(model) else ScriptedModel(model), self.errors)
        self._agents = Agents(identifiers, clock)
        self._conversations = Conversations(
            self._agents,
            caller,
            identifiers,
            clock,
            inputs_visible_at_once=inputs_visible_at_once,
            metadata_filter_works=metadata_filter_works,
        )
        routes = Routes(
            self._agents,
            self._conversations,
            Chat(caller, identifiers, clock),
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
        """The URL of the server, for the `server_url` of a client."""
        if not self._port:
            raise RuntimeError("the server has no address yet; use it inside `with`, or call start()")
        return f"http://127.0.0.1:{self._port}"

    @property
    def agents(self) -> dict[str, Json]:
        """All agents as the API shows them now, by id, oldest first."""
        return self._agents.shown()

    @property
    def conversations(self) -> dict[str, StandInConversation]:
        """All stored conversations by id, oldest first. Do not change them."""
        return dict(self._conversations.stored)

    def raise_errors(self) -> None:
        """Raise the errors of the stand-in itself, such as a script without replies or a failed model."""
        if self.errors:
            raise BaseExceptionGroup("the stand-in for Mistral's API had errors", list(self.errors))

    async def settled(self) -> None:
        """Return when there is no work on any conversation, also for clients that have disconnected."""
        if self._loop is None:
            raise RuntimeError("the server is not running; use it inside `with`, or call start()")
        work = asyncio.run_coroutine_threadsafe(self._conversations.settled(), self._loop)
        await asyncio.wrap_future(work)

    def forget(self) -> None:
        """Forget every agent, conversation and request. No request may be unanswered when this is called.

        It keeps the lists short when one server serves thousands of tests.
        """
        self._agents.clear()
        self._conversations.stored.clear()
        self.requests.clear()

    def start(self) -> None:
        """Start the server; it accepts requests when this returns."""
        if self._thread is not None:
            raise RuntimeError("the server is already running")
        # asyncio turns off Nagle's algorithm only for sockets with an explicit protocol. With it, each answer
        # would take 40 ms.
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
        """Cut every connection, drop unfinished work and free the port. Does nothing if not running."""
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
        self._annotate(error)

    async def __aenter__(self) -> MistralServer:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)
        self._annotate(error)

    def _annotate(self, error: BaseException | None) -> None:
        """Let an error of the block show the mistakes in the model that may be its reason."""
        if error is not None:
            for mistake in self.errors:
                trace = "".join(traceback.format_exception(mistake))
                error.add_note(f"the model of the stand-in failed:\n{trace}")

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
            # Closing an idle connection just when a client writes to it would be a fault that no test wants.
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
        await asyncio.sleep(0)  # Each connection must notice, so that it does not answer a cancelled request.
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


def serve(model: Model | Script, *, port: int = 0) -> None:
    """Print the address, and serve until interrupted. This is for a separate process."""
    with MistralServer(model, port=port) as server:
        print(f"{server.url} (api key {server.api_key})", flush=True)
        threading.Event().wait()
