"""The command of a stdio server in tests: it hands its streams to the nursery, and waits.

`python -I -S connect.py SOCKET NOTES WORD...`. It ends when the server that was forked for it does.
"""

import socket
import sys


def main(path: str, words: list[str]) -> None:
    with socket.socket(socket.AF_UNIX) as nursery:
        nursery.connect(path)
        socket.send_fds(nursery, [" ".join(words).encode()], [0, 1, 2])
        for stream in (sys.stdin, sys.stdout):
            stream.close()
        nursery.recv(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
