"""The server of the demonstration's model: Mistral's, or one on this computer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol


class Cloud(Protocol):
    """A server with a model, as the demonstration uses it."""

    description: str
    environment: Mapping[str, str]
    """The environment variables by which workers find it."""
    questions: Counter[tuple[str | None, int]] | None
    """The number of times that each question was asked, if that is known."""

    async def in_the_middle(self) -> None:
        """Return when the answer that the kill must interrupt is under way."""

    def go_on(self) -> None:
        """Release an answer that was held back."""


class Mistral(Cloud):
    """Mistral's own API, whose answers take long enough to be interrupted."""

    description = "Mistral's API (MISTRAL_API_KEY is set)"

    def __init__(self) -> None:
        self.environment = {}
        self.questions = None

    async def in_the_middle(self) -> None:
        """Return at once: an answer is under way as soon as its turn has started."""

    def go_on(self) -> None:
        """Do nothing, because no answer was held back."""
