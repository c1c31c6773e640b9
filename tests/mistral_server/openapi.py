"""An independent judge: holds every exchange with the stand-in against Mistral's OpenAPI description.

It shares no code with the stand-in. openapi-core reads the description and checks paths, parameters,
credentials and bodies; the events of streams are checked one by one against their schemas.

    judge = OpenApiJudge()
    with MistralServer(model, on_exchange=judge) as server: ...
    judge.raise_problems()
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.deserializing.media_types.exceptions import MediaTypeDeserializeError
from openapi_schema_validator import OAS31Validator
from werkzeug.datastructures import Headers, ImmutableMultiDict

from outlast.testing.mistral_server import RecordedExchange, RecordedRequest, RecordedResponse

DESCRIPTION = Path(__file__).parents[1] / "data" / "mistral-openapi.json"
HOST = "https://api.mistral.ai"

Json = dict[str, Any]


class OpenApiJudge:
    """Collects the faults of the exchanges that it checks, and counts the exchanges without a fault."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.approved: Counter[tuple[str, int]] = Counter()

    def __call__(self, exchange: RecordedExchange) -> None:
        request, response = exchange.request, exchange.response
        found = [*request_problems(request, response), *response_problems(request, response)]
        self.problems += [
            f"{request.method} {request.path} {response.status}: {problem}" for problem in found
        ]
        if not found:
            self.approved[request.method, response.status] += 1

    def raise_problems(self) -> None:
        """Raise AssertionError if any exchange was not as described, or if none was shown."""
        assert not self.problems, "\n".join(self.problems)
        assert self.approved, "no exchange was judged: is the judge attached as on_exchange?"


def request_problems(request: RecordedRequest, response: RecordedResponse) -> Iterator[str]:
    """Yield how a request departs from the description; one that the server refused is allowed to."""
    if response.status in (400, 401, 404, 405, 422):
        return
    description = _description(_is_streamed(request))
    for error in description.iter_request_errors(_Request(request)):
        yield f"request: {_reasons(error)}"


def response_problems(request: RecordedRequest, response: RecordedResponse) -> Iterator[str]:
    """Yield how a response departs from the description, which covers successes and 422."""
    if response.status not in (200, 204, 422):
        return
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        yield from _stream_problems(request, response)
        return
    described = _description(_is_streamed(request))
    for error in described.iter_response_errors(_Request(request), _Response(response)):
        yield f"response: {_reasons(error)}: {response.body[:2000].decode()}"


def _stream_problems(request: RecordedRequest, response: RecordedResponse) -> Iterator[str]:
    is_chat = request.path.endswith("/chat/completions")
    if not _is_streamed(request):
        yield "response: a stream that was not asked for"
    validator = _schema("CompletionEvent" if is_chat else "ConversationEvents")
    frames = [_fields(frame) for frame in response.body.decode().split("\n\n") if frame]
    if is_chat:
        if frames[-1:] != [{"data": "[DONE]"}]:
            yield "stream: does not end with [DONE]"
        frames = [frame for frame in frames if frame["data"] != "[DONE]"]
    elif frames[0]["event"] != "conversation.response.started" or not frames[-1]["event"].startswith(
        ("conversation.response.done", "conversation.response.error")
    ):
        yield "stream: must begin with started and end with done or error"
    for frame in frames:
        event: Json = frame | {"data": json.loads(frame["data"])}
        if not is_chat and event["event"] != event["data"]["type"]:
            yield f"stream: the event's name is not its type: {event}"
        for error in validator.iter_errors(event):
            yield f"stream: {_reasons(error)}: {event}"


def _fields(frame: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in frame.splitlines())


def _is_streamed(request: RecordedRequest) -> bool:
    return request.method == "POST" and bool(request.body) and request.json().get("stream") is True


@cache
def _document() -> Json:
    document: Json = json.loads(DESCRIPTION.read_text())
    # The description requires `data` in a chat completion, which neither the SDK nor any live answer has.
    document["components"]["schemas"]["ChatCompletionResponse"]["allOf"][1]["required"].remove("data")
    # openapi-core reads a repeated query parameter as a list only if its schema is plainly an array.
    for operation in (item for path in document["paths"].values() for item in path.values()):
        for parameter in operation.get("parameters", ()):
            first, *_ = parameter.get("schema", {}).get("anyOf", [{}])
            if first.get("type") == "array":
                parameter["schema"] = first
    return document


@cache
def _description(streamed: bool) -> OpenAPI:
    """Return the description with the paths of streamed requests, or with the others.

    The description distinguishes the two by a fragment of the path, which never reaches the wire.
    """
    document = _document()
    marked = {path: item for path, item in document["paths"].items() if path.endswith("#stream")}
    paths = {path: item for path, item in document["paths"].items() if path not in marked}
    if streamed:
        paths |= {path.removesuffix("#stream"): item for path, item in marked.items()}
    return OpenAPI.from_dict(document | {"paths": paths})


@cache
def _schema(name: str) -> OAS31Validator:
    root = {"$ref": f"#/components/schemas/{name}", "components": _document()["components"]}
    return OAS31Validator(root, format_checker=OAS31Validator.FORMAT_CHECKER)


def _reasons(error: BaseException) -> str:
    """Return the whole story of an error: its message, its causes and what each alternative found wrong."""
    # openapi-core cannot turn this error about a parameter into a string: it takes the value for bytes.
    parts = [repr(error) if isinstance(error, MediaTypeDeserializeError) else str(error)]
    parts += [_reasons(inner) for inner in getattr(error, "schema_errors", None) or ()]
    parts += [f"{list(inner.path)}: {inner.message}" for inner in getattr(error, "context", None) or ()]
    if error.__cause__ is not None:
        parts.append(_reasons(error.__cause__))
    return "; ".join(parts)[:4000]


class _Request:
    """A recorded request as openapi-core wants to see it."""

    def __init__(self, request: RecordedRequest) -> None:
        self.host_url = HOST
        self.path = request.path
        self.method = request.method.lower()
        self.body = request.body or None
        self.content_type = request.headers.get("content-type", "")
        pairs = [(name, value) for name, values in request.query.items() for value in values]
        self.full_url_pattern = f"{HOST}{request.path}?{urlencode(pairs)}"
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(pairs), header=Headers(request.headers), cookie=ImmutableMultiDict()
        )


class _Response:
    """A recorded response as openapi-core wants to see it."""

    def __init__(self, response: RecordedResponse) -> None:
        self.status_code = response.status
        self.data = response.body or None
        self.content_type = response.headers.get("content-type", "")
        self.headers = Headers(response.headers)
