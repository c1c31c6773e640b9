"""Where the demonstration's model is: at Mistral, or on this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol


class Cloud(Protocol):
    """A server with a model, and what the demonstration can know and do there."""

    description: str
    environment: Mapping[str, str]
    """The environment variables by which workers find it."""
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
