"""The scripts that run in the server: each changes, or reads, one shard as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError

Client = Redis | RedisCluster
Argument = str | bytes | int


@dataclass(frozen=True)
class Script:
    """One of the files in `scripts`, with what is common to all of them in front."""

    name: str
    source: str = field(repr=False)
    sha: str

    async def run(self, client: Client, key: str, arguments: Sequence[Argument]) -> Any:
        """Return what the script returns; `key` says where in a cluster it runs.

        The server is sent the script itself only if it does not know it (after a restart, a failover or
        SCRIPT FLUSH); the first try then had no effect, so the second one is the only one.
        """
        try:
            return await client.evalsha(self.sha, 1, key, *arguments)
        except NoScriptError:
            return await client.eval(self.source, 1, key, *arguments)

    async def run_and_wait(
        self, client: Client, key: str, arguments: Sequence[Argument], wait: Sequence[Argument]
    ) -> tuple[Any, Any]:
        """Run it, and then the command `wait` on the same connection; return what both say.

        Raises:
            RedisError: either failed; the script may have had its effect.
        """

        async def both(*command: str) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            pipeline.execute_command(*command, 1, key, *arguments)
            pipeline.execute_command(*wait)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
            return answers

        outcome, waited = await both("EVALSHA", self.sha)
        if isinstance(outcome, NoScriptError):
            outcome, waited = await both("EVAL", self.source)
        for answer in (outcome, waited):
            if isinstance(answer, Exception):
                raise answer
        return outcome, waited


@cache
def script(name: str) -> Script:
    """Return the script in `scripts/NAME.lua`."""
    folder = files("durable_agents.adapters.redis") / "scripts"
    source = "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in ("common", name))
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
