"""Serving the inspector by itself, for browsers on this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable

from outlast.core.errors import ConfigurationError, MissingExtra
from outlast.web.application import Inspector

try:
    from uvicorn import Config, Server
except ModuleNotFoundError as error:
    if error.name != "uvicorn":
        raise
    raise MissingExtra("web") from error

ADDRESS = "127.0.0.1"
STOP_SECONDS = 1
"""The time that open connections have when the server stops: a page that follows never closes its own."""


async def serve(app: Inspector, port: int, serving: Callable[[str], None]) -> None:
    """Serve on loopback until SIGINT or SIGTERM; call `serving` with the URL that opens the page.

    Raises:
        ConfigurationError: the port is in use, or not allowed.
    """
    try:
        listener = socket.create_server((ADDRESS, port))
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"cannot listen on port {port}: {error}; choose another one, or 0"
        ) from error
    with listener:
        config = Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,  # Its lines would have the token.
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        serving(f"http://{ADDRESS}:{listener.getsockname()[1]}/?token={app.token}")
        await Server(config).serve(sockets=[listener])
