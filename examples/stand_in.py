"""Mistral's API for the examples: the real one if MISTRAL_API_KEY is set, else a stand-in on this machine.

The stand-in is an HTTP server on loopback that imitates the API. Its model is a function from a `ModelPrompt`
(the agent, the conversation so far, the tools on offer) to what the model says and calls.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from outlast.testing.mistral_server import (
    Call,
    Execute,
    HandOff,
    MistralServer,
    Model,
    ModelPrompt,
    Reply,
    Say,
)

__all__ = ["Call", "Execute", "HandOff", "ModelPrompt", "Reply", "Say", "mistral"]


@contextmanager
def mistral(model: Model) -> Iterator[None]:
    """Let sessions find Mistral's API, or a stand-in whose model is `model`, for the time of the block."""
    if os.environ.get("MISTRAL_API_KEY"):
        print("(talking to Mistral's API)")
        yield
        return
    with MistralServer(model) as server:
        print("(MISTRAL_API_KEY is not set: talking to a stand-in for Mistral's API on this machine)")
        before = dict(os.environ)
        os.environ |= {"MISTRAL_API_KEY": server.api_key, "MISTRAL_SERVER_URL": server.url}
        try:
            yield
        finally:
            os.environ.clear()
            os.environ |= before
        server.raise_errors()
