"""Answers in JSON, also to requests that cannot be met: each error has a kind, and a message to act on."""

from __future__ import annotations

import logging
from typing import Any

from pydantic_core import to_jsonable_python
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from outlast.core.errors import (
    CannotRerun,
    DefinitionError,
    ExecutionAlreadyEnded,
    ExecutionAlreadyExists,
    ExecutionNotFound,
    InvalidArguments,
    NotPending,
    NotSupported,
    OutlastError,
    PayloadTooLarge,
    StorageError,
    UnknownDefinition,
    Unserialisable,
    UpdateFailed,
    UpdateRejected,
    WouldRepeat,
)
from outlast.core.json import encode

logger = logging.getLogger("outlast.web")

_STATUSES: tuple[tuple[type[OutlastError], int], ...] = (
    (ExecutionNotFound, 404),
    (PayloadTooLarge, 413),
    (NotSupported, 501),
    (UnknownDefinition, 501),
    (InvalidArguments, 422),
    (Unserialisable, 422),
    (DefinitionError, 422),
    (CannotRerun, 409),
    (ExecutionAlreadyEnded, 409),
    (ExecutionAlreadyExists, 409),
    (NotPending, 409),
    (UpdateFailed, 409),
    (UpdateRejected, 409),
    (WouldRepeat, 409),
    (StorageError, 503),
)
"""The HTTP status of an error: that of the first class that it is an instance of, else 500."""


def json(value: Any, status: int = 200) -> Response:
    """Return a response with a value of JSON."""
    return Response(
        encode(value), status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )


def jsonable(value: Any) -> Any:
    """Return any value that user code may return as a value of JSON."""
    return to_jsonable_python(value, fallback=str, inf_nan_mode="strings")


def error_of(error: Exception) -> dict[str, Any]:
    """Return an error as JSON. One that is not ours is a bug, and goes to the log."""
    if isinstance(error, OutlastError):
        cause = error.__cause__
        because = f" ({type(cause).__name__}: {cause})" if isinstance(error, UpdateRejected) and cause else ""
        return {"kind": type(error).__name__, "message": f"{error}{because}", "retryable": error.retryable}
    logger.error("the inspector has a bug", exc_info=error)
    return {
        "kind": "InternalError",
        "message": "The inspector made a mistake; its log says which.",
        "retryable": False,
    }


def failed(request: Request, error: Exception) -> Response:
    """Return the response to a request that raised."""
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    return json({"error": error_of(error)}, status)


def refusal(request: Request, status: int, kind: str, message: str) -> Response:
    """Return the response to a request that is not let in: as JSON to the page's code, else as plain text."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    if path.startswith("/api/"):
        return json({"error": {"kind": kind, "message": message, "retryable": False}}, status)
    return PlainTextResponse(f"{message}\n", status, headers={"Cache-Control": "no-store"})
