"""Closing a listening socket without losing connections."""

from __future__ import annotations

import asyncio

ITERATIONS = 4
"""After this many iterations of the event loop, the protocol of an accepted connection has been called."""


async def stop_accepting(server: asyncio.Server) -> None:
    """Close a server; afterwards the protocol of every accepted connection has been called.

    (With TLS, the protocol is called after the handshake, and this does not wait for it.)

    `Server.close` alone can leave a socket open for ever, if the socket was accepted in the same iteration of
    the event loop: its transport finds that the server has no sockets any more, and calls no protocol
    (`Server._attach` in CPython).
    """
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(ITERATIONS):
        await asyncio.sleep(0)
    server.close()
