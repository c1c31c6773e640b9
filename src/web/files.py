"""The files of the page, in memory: a request can reach nothing else on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

FOLDER: Final = Path(__file__).parent / "static"
# The table of the system may say otherwise, and browsers run no module of another type.
_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


class _File(NamedTuple):
    content: bytes
    media_type: str
    tag: str


class Files:
    """The files, by their path under the address of the inspector."""

    def __init__(self) -> None:
        self._files: Mapping[str, _File] = {
            path.relative_to(FOLDER).as_posix(): _read(path)
            for path in sorted(FOLDER.rglob("*"))
            if path.suffix in _TYPES
        }

    async def page(self, request: Request) -> Response:
        """Answer with the page."""
        return self._answer(request, "index.html")

    async def file(self, request: Request) -> Response:
        """Answer with a file of the page."""
        return self._answer(request, request.path_params["path"])

    def _answer(self, request: Request, path: str) -> Response:
        found = self._files.get(path)
        if found is None:
            return Response("There is no such file.\n", 404, media_type="text/plain")
        # A newer version of the package may serve under the same address.
        headers = {"Cache-Control": "no-cache", "ETag": found.tag}
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=304, headers=headers)
        return Response(found.content, media_type=found.media_type, headers=headers)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content, _TYPES[path.suffix], f'"{sha256(content).hexdigest()[:32]}"')
