"""Admission: only requests to a known host, from the page itself, with its token, are let in.

Any page that is open in a browser can send requests to a server on the same machine, and any name can be made
to resolve to 127.0.0.1. Each check below stops one way in:

- *Host*: a page whose own name was made to point here sends that name.
- *Origin* and *Sec-Fetch-Site*: a page from elsewhere can send requests with the cookie of this one. A
  cookie is for every port of a host, so `SameSite` does not stop another server on this machine.
- *Token*: other users of the machine can connect, too. The token comes once, in the URL that the terminal
  prints, and goes on as a cookie that no script can read.
- *The headers of each response*: text that a model or a tool wrote can never become code. Only files of this
  package run, nothing is loaded from elsewhere, and no other page can put this one into a frame.

The URL with the token is replaced at once by one without, so that it is neither in the history of the browser
nor in a `Referer`.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from hashlib import sha256

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outlast.core.errors import ConfigurationError
from outlast.web.answers import refusal

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""The names by which a browser on the same machine finds the inspector."""
TOKEN_CHARACTERS_MIN = 16

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Admission:
    """An ASGI application that lets only admitted requests through to another one."""

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str]) -> None:
        if len(token) < TOKEN_CHARACTERS_MIN or not (token.isascii() and token.isalnum()):
            raise ConfigurationError(
                f"the inspector's token must be {TOKEN_CHARACTERS_MIN} ASCII letters and digits or more; "
                "leave it out to get one made"
            )
        self._app = app
        self._token = token
        self._hosts = frozenset(host.lower() for host in hosts)
        # Browsers send cookies to every port of a host: two inspectors must not replace each other's.
        self._cookie = f"outlast-{sha256(token.encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        request = Request(scope, receive)
        refused = self._refused(request) or self._coming_in(request)
        await (self._app if refused is None else refused)(scope, receive, send_safely)

    def _refused(self, request: Request) -> Response | None:
        """Return the answer to a request that comes for another host, or from another page."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or _name_in(hosts[0]) not in self._hosts:
            return refusal(
                request,
                403,
                "ForeignHost",
                "This inspector does not serve the host that the request names. Open it under one of: "
                f"{', '.join(sorted(self._hosts))}.",
            )
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "none")
        # Somebody may follow a link to the page; nothing else of another page is let in.
        is_a_visit = request.method == "GET" and request.headers.get("sec-fetch-mode") == "navigate"
        if (origin is not None and origin.lower().partition("://")[2] != hosts[0].lower()) or (
            site not in ("none", "same-origin") and not is_a_visit
        ):
            return refusal(
                request,
                403,
                "ForeignOrigin",
                "This request comes from another page than the inspector's own, so it is refused.",
            )
        return None

    def _coming_in(self, request: Request) -> Response | None:
        """Return the answer to a request that brings the token, or that has no right to be here."""
        given = request.query_params.get("token")
        if given is not None:
            if not _equal(given, self._token):
                return self._locked(
                    request, "the token in the URL is wrong, or it is that of an earlier start"
                )
            answer = RedirectResponse("./", 303)
            answer.set_cookie(
                self._cookie,
                self._token,
                path=request.scope.get("root_path", "") + "/",
                secure=request.url.scheme == "https",
                httponly=True,
                samesite="strict",
            )
            return answer
        kept = request.cookies.get(self._cookie)
        if kept is None or not _equal(kept, self._token):
            return self._locked(request, "the browser has no valid token for it")
        return None

    def _locked(self, request: Request, why: str) -> Response:
        return refusal(
            request,
            401,
            "WrongToken",
            f"The inspector cannot be opened: {why}. Open the whole URL that was printed at its start; "
            "each start has a new one.",
        )


def _name_in(host: str) -> str:
    """Return a Host header without the port."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() else host.lower()


def _equal(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())
