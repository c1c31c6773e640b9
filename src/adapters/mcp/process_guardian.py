"""Runs one command, and makes sure that all its processes end with the process that started it.

A stdio server should end when its stdin is closed. Some servers do not, and a worker that was killed cannot
end them. So this program runs between the two:

    python -I -S process_guardian.py SECONDS COMMAND ARGUMENT...

It is the leader of its own process group (MCP's SDK starts it like this), and the command inherits its stdin,
stdout and stderr. When the other end of stdin is closed, also because its process was killed, the process
group has SECONDS to end; then it is killed. When the command ends first, the rest of the group is killed at
once.

It imports only built-in modules of Python, so that it starts in a few milliseconds.
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
    # The reader of stdout must see the end of the command's output, also while this process still runs.
    os.close(1)
    watch(child, woken, command[0], grace_seconds)
    os.killpg(0, signal.SIGKILL)


def run(command: list[str]) -> None:
    """Replace this process by the command."""
    signal.set_wakeup_fd(-1)
    for number in (*LEFT_TO_THE_COMMAND, *IGNORED_BY_PYTHON, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        report(f"{command[0]}: {error.strerror}")
    os._exit(127)


def watch(child: int, woken: int, name: str, grace_seconds: float) -> None:
    """Return once the command has ended, or `grace_seconds` after stdin was closed."""
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
                report(f"{name} ended with exit code {code}")
            return
    report(f"{name} did not end by itself and is killed")


def report(line: str) -> None:
    """Write a line to stderr; ignore the error if nobody reads it any more."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
