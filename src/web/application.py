"""The inspector as an ASGI application."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from outlast.core.errors import OutlastError
from outlast.ports.durability.backend import Backend
from outlast.web.acting import ACTIONS, acting
from outlast.web.admission import LOOPBACK, Admission
from outlast.web.answers import failed
from outlast.web.files import Files
from outlast.web.reading import Reading

TOKEN_BYTES = 24


class Inspector:
    """An ASGI application that serves the page, and what the page asks for."""

    def __init__(self, application: Starlette, token: str, hosts: Collection[str]) -> None:
        self.token = token
        """Opens the page: its address with `?token=…` is the URL for a browser."""
        self._admission = Admission(application, token, hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._admission(scope, receive, send)


def inspector(
    backend: Backend,
    *,
    read_only: bool = False,
    token: str | None = None,
    hosts: Collection[str] = LOOPBACK,
    title: str = "",
    user: str = "",
) -> Inspector:
    """Return an ASGI application that shows the executions of a backend, which is connected already.

    Serve it under an address that ends with a slash. Nobody can use it without its token.

    Args:
        backend: Any backend; the inspector uses nothing but its port.
        read_only: Refuse everything that changes something.
        token: At least 16 ASCII letters and digits; by default, new ones.
        hosts: The hosts under which it is served, without ports: a browser sends the name that it was given.
            By default the names of this machine for itself.
        title: A name for the backend, which the page shows.
        user: The name that the page proposes for who decides about calls.

    Raises:
        ConfigurationError: the token is too short, or has other characters.
    """
    reading = Reading(backend, title=title, user=user, read_only=read_only, actions=ACTIONS)
    files = Files()
    api = [
        Route("/about", reading.about),
        Route("/fleet", reading.fleet),
        Route("/workers", reading.workers),
        Route("/inbox", reading.inbox),
        Route("/approval", reading.approval),
        Route("/execution", reading.execution),
        Route("/rerun", reading.rerun),
        Route("/events", reading.events),
        Route("/event", reading.event),
        Route("/records", reading.records),
        Route("/export", reading.export),
        *(
            Route(f"/actions/{verb}", acting(backend, action, read_only=read_only), methods=["POST"])
            for verb, action in ACTIONS.items()
        ),
    ]
    application = Starlette(
        routes=[
            Route("/", files.page),
            Mount("/api", routes=api),
            Route("/static/{path:path}", files.file),
        ],
        exception_handlers={OutlastError: failed, Exception: failed},
    )
    return Inspector(application, token or secrets.token_hex(TOKEN_BYTES), hosts)
