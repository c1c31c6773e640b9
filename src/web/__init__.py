"""The inspector: a page that lists, shows, follows and steers the executions of any backend.

    async with outlast.connect("sqlite:///runs.db") as backend:
        inspector = outlast.web.inspector(backend)
        print(f"http://127.0.0.1:8000/inspector/?token={inspector.token}")
        ...  # mount `inspector` in an ASGI application of your own, at /inspector

It needs the extra `web`. `outlast inspect` serves it by itself.
"""

from importlib.util import find_spec

from outlast.core.errors import MissingExtra

if find_spec("starlette") is None:
    raise MissingExtra("web")

from outlast.web.application import Inspector, inspector

__all__ = ["Inspector", "inspector"]
