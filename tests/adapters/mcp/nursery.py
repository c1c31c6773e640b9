"""A process with the imports of servers that forks a server for each connection: `nursery.py SOCKET`."""

from __future__ import annotations

import gc
import os
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.adapters.mcp.servers import make_ready, serve_over_http, serve_over_stdio


def main(path: str) -> None:
    make_ready()
    gc.freeze()
    # Nobody waits for the servers, so the number of one that has ended stays its own: tests kill by number.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(100)
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                try:
                    serve(connection)
                finally:
                    os._exit(0)
            connection.close()


def serve(connection: socket.socket) -> None:
    """Be the server of one connection, which stays open until this process ends."""
    message, streams, _, _ = socket.recv_fds(connection, 4096, 3)
    notes, *words = message.decode().split()
    with open(notes, "a") as written:
        written.write(f"{os.getpid()}\n")
    if streams:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        serve_over_stdio(words)
        return
    port, *words = words
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        connection.sendall(str(listener.getsockname()[1]).encode())
        serve_over_http(listener, words)


if __name__ == "__main__":
    main(sys.argv[1])
