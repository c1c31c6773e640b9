"""The Lua scripts that run in the server. Each reads or changes one shard atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from outlast.adapters.redis.routing import Argument, Command, Route


@dataclass(frozen=True)
class Script:
    """One of the files in `scripts`, with `common.lua` before it."""

    name: str
    source: str = field(repr=False)
    sha: str

    async def run(
        self, route: Route, key: str, arguments: Sequence[Argument], *after: Command
    ) -> Sequence[Any]:
        """Run the script, then the commands `after`, on one connection; return all their replies in order.

        It runs on the server that has `key`. The script itself is sent only if that server does not know it
        (after a restart, a failover or SCRIPT FLUSH). In that case nothing has run before, so the script
        runs once.

        Raises:
            RedisError, OSError: the first error; the script may have run all the same.
        """
        try:
            return await route.send(key, ("EVALSHA", self.sha, 1, key, *arguments), *after)
        except NoScriptError:
            return await route.send(key, ("EVAL", self.source, 1, key, *arguments), *after)


@cache
def script(name: str) -> Script:
    """Return the script in `scripts/NAME.lua`."""
    folder = files("outlast.adapters.redis") / "scripts"
    source = "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in ("common", name))
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
