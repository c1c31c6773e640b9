"""The error answers of the stand-in, in the forms that the endpoints of the API use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError


class ApiError(Exception):
    """An answer that is not a success: a status, a body and headers."""

    def __init__(
        self, status: int, body: Mapping[str, Any] | str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body
        self.headers = dict(headers or {})

    @property
    def message(self) -> str:
        """The message for the error event of a stream."""
        if isinstance(self.body, str):
            return self.body
        message = self.body.get("message", self.body)
        return message if isinstance(message, str) else json.dumps(message)

    @property
    def code(self) -> int:
        """The code for the error event of a stream; 3000 if the body has no code."""
        code = self.body.get("code") if isinstance(self.body, Mapping) else None
        return int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdecimal()) else 3000


def unauthorized() -> ApiError:
    return ApiError(401, {"detail": "Unauthorized"})


def not_found(kind: str, identifier: str) -> ApiError:
    return ApiError(
        404, _conversations_body(f"{kind} with id {identifier} was not found", "not_found_error", 3000)
    )


def bad_request(message: str) -> ApiError:
    """Return the error for a bad request to the agents or conversations endpoints."""
    return ApiError(400, _conversations_body(message, "invalid_request_error", 3001))


def being_updated() -> ApiError:
    message = "Conversation is being updated, concurrent requests are not supported"
    return ApiError(409, _conversations_body(message, "invalid_request_error", 3000))


def internal(message: str) -> ApiError:
    return ApiError(500, _conversations_body(message, "internal_server_error", 3000))


def mistaken(message: str) -> ApiError:
    """Return the error for a mistake in a test: one that no client tries again."""
    return ApiError(400, _conversations_body(message, "invalid_request_error", 3000))


def handoff_failed() -> ApiError:
    return internal("Response failed during handoff orchestration")


def rate_limited_body() -> dict[str, Any]:
    body = {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "param": None}
    return body | {"code": "1300", "raw_status_code": 429}


def chat_bad_request(message: str, *, type: str, code: str) -> ApiError:
    """Return the error for a bad request to the chat endpoint, where codes are strings."""
    return ApiError(400, {"object": "error", "message": message, "type": type, "param": None, "code": code})


def chat_order(message: str) -> ApiError:
    return chat_bad_request(message, type="invalid_request_message_order", code="3230")


def invalid_body(error: ValidationError) -> ApiError:
    """Return the error for a body that is not valid, with one detail for each fault."""
    return ApiError(422, {"detail": details(error)})


def missing_field(*location: str | int) -> ApiError:
    return ApiError(422, {"detail": [_detail("missing", location, "Field required", None)]})


def invalid_value(message: str, *location: str | int, value: object) -> ApiError:
    return ApiError(422, {"detail": [_detail("value_error", location, f"Value error, {message}", value)]})


def chat_invalid_body(error: ValidationError) -> ApiError:
    message = {"detail": details(error)}
    body = {
        "object": "error",
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    return ApiError(422, body)


def details(error: ValidationError, where: str = "body") -> list[dict[str, Any]]:
    """Return the faults that pydantic found, in the form of the API."""
    found = json.loads(error.json(include_url=False, include_context=False))
    return [_detail(item["type"], (where, *item["loc"]), item["msg"], item.get("input")) for item in found]


def _detail(kind: str, location: Sequence[str | int], message: str, value: object) -> dict[str, Any]:
    return {"type": kind, "loc": list(location), "msg": message, "input": value}


def _conversations_body(message: str, kind: str, code: int) -> dict[str, Any]:
    return {"object": "Error", "message": message, "type": kind, "code": code}
