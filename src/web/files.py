"""The files of the page, in memory: a request can reach nothing else on the disk.

The page names its files in a folder that has their version as its name, and its modules import each other
from there. So a browser asks for none of them again, until there is a newer version, in another folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

FOLDER: Final = Path(__file__).parent / "static"
ASK_AGAIN: Final = "no-cache"
"""A newer version of the package may serve under the same address."""
KEEP: Final = "private, max-age=31536000, immutable"
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
        whole = sha256(b"".join(file.content for file in self._files.values()))
        self._version = whole.hexdigest()[:16]
        page = self._files["index.html"]
        content = page.content.replace(b'"static/', f'"static/{self._version}/'.encode())
        self._page = page._replace(content=content, tag=_tag(content))

    async def page(self, request: Request) -> Response:
        """Answer with the page."""
        return _answer(request, self._page, ASK_AGAIN)

    async def file(self, request: Request) -> Response:
        """Answer with a file of the page, by its path, with or without the version before it."""
        path = request.path_params["path"]
        named = path.removeprefix(f"{self._version}/")
        found = self._files.get(named)
        if found is None:
            return Response("There is no such file.\n", 404, media_type="text/plain")
        return _answer(request, found, ASK_AGAIN if named == path else KEEP)


def _answer(request: Request, file: _File, caching: str) -> Response:
    headers = {"Cache-Control": caching, "ETag": file.tag}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content, _TYPES[path.suffix], _tag(content))


def _tag(content: bytes) -> str:
    return f'"{sha256(content).hexdigest()[:32]}"'
