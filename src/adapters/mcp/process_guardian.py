"""Runs one command, and sees to it that nothing of it outlives the process that asked for it.

A stdio server is to end when its stdin does. Some do not, and when a worker is killed nobody is left to make
them. This program stands between the two: `python -I -S process_guardian.py SECONDS COMMAND ARGUMENT...`, the
leader of a process group of its own (MCP's SDK starts it so). The command has its stdin, stdout and stderr.
When the other end of stdin is gone, be it closed or its process killed, the group has SECONDS to end, and is
killed then. When the command ends first, what it has left behind is killed at once.

It imports nothing but what Python has built in, so that it starts in a few milliseconds.
"""

import contextlib
import os
import select
import signal
import sys
import time

LEFT_TO_THE_COMMAND = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def main(grace_seconds: float, command: list[str]) -> None:
    for number in LEFT_TO_THE_COMMAND:
        signal.signal(number, signal.SIG_IGN)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = os.fork()
    if child == 0:
        run(command)
    # Whoever reads the command's output must see its end, whatever becomes of this process.
    os.close(1)
    watch(child, woken, command[0], grace_seconds)
    os.killpg(0, signal.SIGKILL)


def run(command: list[str]) -> None:
    """Become the command."""
    signal.set_wakeup_fd(-1)
    for number in (*LEFT_TO_THE_COMMAND, *IGNORED_BY_PYTHON, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        say(f"{command[0]}: {error.strerror}")
    os._exit(127)


def watch(child: int, woken: int, name: str, grace_seconds: float) -> None:
    """Return once the command has ended, or has not though it should have."""
    poll = select.poll()
    poll.register(0, 0)
    poll.register(woken, select.POLLIN)
    deadline: float | None = None
    while deadline is None or time.monotonic() < deadline:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        for descriptor, _ in poll.poll(left):
            if descriptor == 0:
                poll.unregister(0)
                deadline = time.monotonic() + grace_seconds
            else:
                os.read(woken, 64)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            if code:
                say(f"{name} ended with {code}")
            return
    say(f"{name} did not end by itself")


def say(what: str) -> None:
    """Write a line to stderr, if anybody still reads it."""
    with contextlib.suppress(OSError):
        os.write(2, f"{what}\n".encode())


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
