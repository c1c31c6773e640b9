"""Where the demonstration's model is: at Mistral, or on this machine."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Protocol

from outlast.core.errors import MissingExtra


class Cloud(Protocol):
    """A server with a model, and what the demonstration can know and do there."""

    description: str
    environment: Mapping[str, str]
    """What the workers must be told to find it."""
    questions: Counter[tuple[str | None, int]] | None
    """How often the model was asked what, where that is known."""

    async def in_the_middle(self) -> None:
        """Return once the answer that the kill is to interrupt is under way."""

    def go_on(self) -> None:
        """Let go an answer that was held back."""


class Mistral(Cloud):
    """Mistral's own API, whose answers take long enough to be interrupted."""

    description = "Mistral's API (MISTRAL_API_KEY is set)"

    def __init__(self) -> None:
        self.environment = {}
        self.questions = None

    async def in_the_middle(self) -> None:
        """An answer is under way as soon as its turn has started."""

    def go_on(self) -> None:
        """Nothing was held back."""


@contextlib.contextmanager
def find_cloud() -> Iterator[Cloud]:
    """Give Mistral's API if there is a key for it, else a stand-in that serves for the time of the block.

    Raises:
        MissingExtra: the stand-in's server is not installed.
    """
    if os.environ.get("MISTRAL_API_KEY", "").strip():
        yield Mistral()
        return
    try:
        from outlast.cli.demo.stand_in import stand_in
    except MissingExtra as error:
        raise MissingExtra("cli,mistral,testing") from error
    with stand_in() as cloud:
        yield cloud
