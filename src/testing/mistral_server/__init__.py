"""A stand-in for Mistral's API: an HTTP server on loopback, whose replies your own model makes.

It has agents with versions, conversations with histories and rules of order, streams, handoffs on the server,
built-in tools, confirmations, and chat completions. Its errors have the form of the real server's errors. On
demand it fails like a network or a cloud service (see `Fault`), at any point in the life of a request.

    model = ScriptedModel({"weather": [[Call("get_weather", {"city": "Lyon"})], [Say("It rains.")]]})
    with MistralServer(model) as server:
        client = Mistral(api_key=server.api_key, server_url=server.url)
        server.faults.add(Fault(Drop("answer"), method="POST", path="/v1/conversations/*"))
        ...
        server.raise_errors()

The tests of this project compare the stand-in with Mistral's published OpenAPI description.
"""

try:
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as error:
    from outlast.core.errors import MissingExtra

    raise MissingExtra("conformance") from error

from outlast.adapters.scripted import ScriptExhausted
from outlast.testing.mistral_server.conversations import StandInConversation
from outlast.testing.mistral_server.faults import (
    AnswerWith,
    Delay,
    Drop,
    EndStream,
    Fault,
    Faults,
    Hang,
    Rewrite,
    not_json,
    not_the_schema,
    rate_limited,
    unavailable,
)
from outlast.testing.mistral_server.model import (
    Call,
    Execute,
    HandOff,
    Model,
    ModelPrompt,
    Output,
    Refuse,
    Reply,
    Say,
    ScriptedModel,
    Think,
)
from outlast.testing.mistral_server.server import MistralServer, serve
from outlast.testing.mistral_server.wire import RecordedExchange, RecordedRequest, RecordedResponse

__all__ = [
    "AnswerWith",
    "Call",
    "Delay",
    "Drop",
    "EndStream",
    "Execute",
    "Fault",
    "Faults",
    "HandOff",
    "Hang",
    "MistralServer",
    "Model",
    "ModelPrompt",
    "Output",
    "RecordedExchange",
    "RecordedRequest",
    "RecordedResponse",
    "Refuse",
    "Reply",
    "Rewrite",
    "Say",
    "ScriptExhausted",
    "ScriptedModel",
    "StandInConversation",
    "Think",
    "not_json",
    "not_the_schema",
    "rate_limited",
    "serve",
    "unavailable",
]
