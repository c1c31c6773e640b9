"""The stand-in stops in any moment, and leaves nothing open."""

from __future__ import annotations

import gc
import socket

import pytest

from outlast.testing.mistral_server import MistralServer, Say, ScriptedModel

pytestmark = pytest.mark.server


def test_stopping_just_as_clients_connect_leaves_no_socket_open() -> None:
    """The garbage collector finds sockets that are left open, and pytest makes an error of it."""
    for _ in range(20):
        with MistralServer(ScriptedModel([[Say("1")]])) as server:
            address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
            clients = [socket.socket() for _ in range(6)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex(address)
        for client in clients:
            client.close()
    gc.collect()
