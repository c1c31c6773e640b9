"""The deltas port: text that a model is still writing, for readers of the event stream.

Text is published beside the journal, which holds whole replies only. Nothing depends on it: a reader that
misses some of it gets all of it with the reply. A backend with a transport of its own (a stream, heartbeats)
offers it as this port, or makes its event stream from that transport in its own way.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from outlast.core.event_stream import Delta

Publish = Callable[[str], None]
"""Takes the next piece of a reply's text, at once and without an error; called in the event loop."""

KEEP_SECONDS = 60.0
"""The shortest time for which the text of a step is kept after its last piece."""


def publish_nothing(text: str) -> None:
    """Take the text and publish nothing."""


class Deltas(Protocol):
    """Pieces of text of running executions, for a while. An async context manager opens and closes it.

    X1  `read` returns what was published, in that order, in every process, at least until its step has
        published nothing for `KEEP_SECONDS`; after that it is forgotten at some time.
    X2  Executions do not see each other's text. An id that nobody published to has no text.
    X3  What is published may be lost with the process or the machine, without an error.
    X4  Raises `StorageError` when it cannot do its work; then nothing but text is lost.
    """

    @abstractmethod
    async def publish(self, execution_id: str, delta: Delta) -> None:
        """Let every reader of the execution see `delta`."""

    @abstractmethod
    async def read(self, execution_id: str, after: str) -> tuple[Sequence[Delta], str]:
        """Return the kept deltas that were published after the place `after`, and the place to go on from.

        The first place is ""; an earlier `read` of the same execution returned any other.
        """

    @abstractmethod
    async def follow(self, execution_id: str, after: str, timeout_seconds: float) -> None:
        """Return when there is something to read after that place, or it timed out, or for no reason."""

    @abstractmethod
    async def __aenter__(self) -> Deltas:
        """Open it."""

    @abstractmethod
    async def __aexit__(self, *_: object) -> None:
        """Close it."""
