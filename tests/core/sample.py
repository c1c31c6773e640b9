"""Folds and replays the sample on its standard input, without any I/O, and prints a hash of the results.

Run as a program, in a process of its own: an audit hook stays for as long as its process.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from outlast.core.agent_events import AgentEvent
from outlast.core.agent_machine import step
from outlast.core.agent_run import AgentRun
from outlast.core.errors import NonDeterminismError
from outlast.core.json import decode, encode
from outlast.core.records import INPUTS, NOTES, EventEmitted, decode_record, encode_record
from outlast.core.workflow_machine import WorkflowMachine

AGENT_EVENT: TypeAdapter[AgentEvent] = TypeAdapter(AgentEvent)

FORBIDDEN = ("open", "import", "time.", "socket.", "subprocess.", "os.", "_thread.", "shutil.", "sqlite3.")
CLOCKS = ("sleep", "time", "time_ns", "monotonic", "perf_counter")
"""Reading these is not audited by every version of Python."""

IMPURE: dict[str, Callable[[], object]] = {
    "open": lambda: Path(__file__).read_bytes(),
    "socket": socket.socket,
    "listdir": lambda: os.listdir("."),
    "process": lambda: subprocess.run([sys.executable, "--version"], check=True),
    "sleep": lambda: time.sleep(0),
    "clock": lambda: time.time(),
    "import": lambda: __import__("wave"),
}
"""Calls that the hook must stop, to prove that it bites."""


def story_as_bytes(start: Any, events: list[Any]) -> bytes:
    """Return everything that a run comes to."""
    run, found = AgentRun.model_validate(start), b""
    for event in events:
        run, effects = step(run, AGENT_EVENT.validate_python(event))
        found += run.to_json() + b"".join(effect.to_json() for effect in effects)
    return found


def replay_as_bytes(journal: list[Any]) -> bytes:
    """Return everything that a journal comes to, and how its first departure would read."""
    records = [decode_record(encode(record)) for record in journal]
    machine, position, found = WorkflowMachine("e-1", records), 0, b""
    while (given := machine.advance()) is not None:
        position = records.index(given, position) + 1
        for record in records[position:]:
            if isinstance(record, INPUTS):
                break
            if not isinstance(record, NOTES):
                machine.request(record)
        found += encode_record(given) + repr((machine.now, machine.steps, machine.timers)).encode()
    departing = WorkflowMachine("e-1", records)
    departing.advance()
    try:
        departing.request(EventEmitted(key="0.0", kind="other", data={"b": 1, "a": [2]}))
        departing.advance()
    except NonDeterminismError as error:
        found += str(error).encode()
    return found


def main() -> None:
    """Read the sample, forbid I/O, and print a hash of everything that the core computes from it."""
    stories, journals = decode(sys.stdin.buffer.read())
    armed = True

    def refuse(event: str, _: tuple[object, ...]) -> None:
        if armed and event.startswith(FORBIDDEN):
            raise RuntimeError(f"the core is not pure: {event}")

    sys.addaudithook(refuse)
    for clock in CLOCKS:
        setattr(time, clock, lambda *_, name=clock: refuse(f"time.{name}", ()))
    digest = hashlib.sha256()
    for start, events in stories:
        digest.update(story_as_bytes(start, events))
    for journal in journals:
        digest.update(replay_as_bytes(journal))
    for deed in sys.argv[1:]:
        IMPURE[deed]()
    armed = False
    print(digest.hexdigest())


if __name__ == "__main__":
    main()
