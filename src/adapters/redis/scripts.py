"""The scripts that run in the server: each changes, or reads, one shard as a whole."""

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
    """One of the files in `scripts`, with what is common to all of them in front."""

    name: str
    source: str = field(repr=False)
    sha: str

    async def run(
        self, route: Route, key: str, arguments: Sequence[Argument], *after: Command
    ) -> Sequence[Any]:
        """Return what the script returns, and what the commands `after` it do, on the same connection.

        `key` says where in a cluster it runs. The server is sent the script itself only if it does not know
        it (after a restart, a failover or SCRIPT FLUSH); the first try then had no effect, so the second one
        is the only one.

        Raises:
            RedisError, OSError: something went wrong; the script may have had its effect.
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
