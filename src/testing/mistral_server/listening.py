"""The end of listening."""

from __future__ import annotations

import asyncio

TURNS = 4
"""In so many turns of the loop an accepted connection is made known to its protocol, and that acts."""


async def stop_accepting(server: asyncio.Server) -> None:
    """Close a server; whatever it has accepted is a connection, and known to its protocol, when this returns.

    (With TLS, it is known when the handshake is over, which is not waited for.)

    `Server.close` alone leaves a socket open for good that was accepted in the same turn of the loop: its
    transport finds that the server has no sockets any more, and nobody is told (CPython's `Server._attach`).
    """
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(TURNS):
        await asyncio.sleep(0)
    server.close()
