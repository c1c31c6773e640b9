"""Ports for servers that take a number instead of choosing one themselves."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"
PORTS = range(15_000, 32_000)
"""Below those that systems give to connections: one of these could take the port before the server does."""

_chance = random.SystemRandom()
"""A test that seeds `random` would choose the same ports as another one beside it."""


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nobody listens at now, all different."""
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            port = _chance.choice(PORTS)
            try:
                stack.enter_context(socket.socket()).bind((LOOPBACK, port))
            except OSError:
                continue
            found.append(port)
    return found


def free_port() -> int:
    """Return a loopback port that nobody listens at now."""
    return free_ports(1)[0]
