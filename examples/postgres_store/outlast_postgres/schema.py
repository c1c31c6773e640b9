"""The tables of a store, and the migrations that make them.

One row of `execution` has everything that is needed to find, claim and fence an execution. Every method that
writes locks that row first, and no method but a claim, a renewal and a prune locks two of them; these never
wait for a row while they hold another that somebody could wait for in the other order.

`ready_at` is the time from which an execution is claimable: the end of the lease while it has an owner, else
the wake-up time, or the time since which it waits for a worker. It is NULL when only a message can make it
claimable, and when it is held or has ended. `ignores_mail` is true after a release with `hold`; it counts
only while there is no owner. The status of what is held is 'paused', since people look for that.

Text has the collation "C", so that it is equal, and sorted, by code points. Tokens come from one sequence, so
they grow also for an id that was forgotten and is used again.

A migration that a release had is never changed: a change of the tables is one more migration. It must leave
the workers of the release before it able to work, since they run on while the new ones are started.
"""

from __future__ import annotations

from typing import Final

import asyncpg

from outlast.core.errors import ConfigurationError, StorageTooNew

_EXECUTIONS: Final = """
CREATE SEQUENCE token;

CREATE TABLE execution (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    workflow text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    task_queue text COLLATE "C" NOT NULL,
    keep_seconds double precision,
    status text COLLATE "C" NOT NULL,
    length bigint NOT NULL,
    created_at double precision NOT NULL,
    ended_at double precision,
    reason text,
    owner text COLLATE "C",
    token bigint NOT NULL DEFAULT 0,
    ready_at double precision,
    sent bigint NOT NULL DEFAULT 0,
    consumed bigint NOT NULL DEFAULT 0,
    fruitless bigint NOT NULL DEFAULT 0,
    ignores_mail boolean NOT NULL DEFAULT false,
    tags jsonb NOT NULL DEFAULT '{}',
    overview text,
    waiting text COLLATE "C"
);

-- What is claimable, in the order in which it is claimed. The workers of a task queue mostly run the same
-- workflows, so the workflow is only checked.
CREATE INDEX execution_ready ON execution (task_queue, ready_at, key) WHERE ready_at IS NOT NULL;
CREATE INDEX execution_owner ON execution (owner, id) WHERE owner IS NOT NULL;
CREATE INDEX execution_mail ON execution (owner) WHERE owner IS NOT NULL AND sent > consumed;
CREATE INDEX execution_ended ON execution (ended_at) WHERE ended_at IS NOT NULL;

-- Lists: each ends with the order of a page.
CREATE INDEX execution_created ON execution (created_at, id);
CREATE INDEX execution_workflow ON execution (workflow, created_at, id);
CREATE INDEX execution_status ON execution (status, created_at, id);
CREATE INDEX execution_waiting ON execution (waiting, created_at, id) WHERE waiting IS NOT NULL;
CREATE INDEX execution_tags ON execution USING gin (tags jsonb_path_ops);

CREATE TABLE record (
    execution bigint NOT NULL REFERENCES execution ON DELETE CASCADE,
    position bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (execution, position)
);

CREATE TABLE message (
    execution bigint NOT NULL REFERENCES execution ON DELETE CASCADE,
    number bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (execution, number),
    UNIQUE (execution, id)
);

CREATE TABLE worker (
    identity text COLLATE "C" PRIMARY KEY,
    workflows text[] NOT NULL,
    task_queue text NOT NULL,
    started_at double precision NOT NULL,
    alive_until double precision NOT NULL
);
"""

_TEXT_OF_REPLIES: Final = """
-- Text of replies that are still being written. It may be lost with the server, so it is not logged.
CREATE UNLOGGED TABLE delta_place (
    execution text COLLATE "C" PRIMARY KEY,
    number bigint NOT NULL,
    latest_at double precision NOT NULL
);

CREATE INDEX delta_place_latest ON delta_place (latest_at);

CREATE UNLOGGED TABLE delta (
    execution text COLLATE "C" NOT NULL REFERENCES delta_place ON DELETE CASCADE,
    number bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (execution, number)
);
"""

MIGRATIONS: Final = (_EXECUTIONS, _TEXT_OF_REPLIES)
"""The statements that turn an empty schema into version 1, version 1 into version 2, and so on."""


async def prepare(connection: asyncpg.Connection, schema: str, place: str) -> None:
    """Bring the schema to the newest version; `search_path` of the connection leads to it.

    Any number of processes may do this at the same time: one of them works, and the others wait for it.

    Raises:
        StorageTooNew: a newer version of this package has made the tables.
        ConfigurationError: the database cannot hold every text.
    """
    if (encoding := await connection.fetchval("SHOW server_encoding")) != "UTF8":
        raise ConfigurationError(f"{place} has the encoding {encoding}; create a database with UTF8")
    if await _version(connection, place) == len(MIGRATIONS):
        return
    async with connection.transaction():
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtext('outlast migrations'), hashtext($1))", schema
        )
        if not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema
        ):
            await connection.execute(
                await connection.fetchval("SELECT format('CREATE SCHEMA %I', $1::text)", schema)
            )
        await connection.execute("CREATE TABLE IF NOT EXISTS outlast_version (version integer NOT NULL)")
        version = await _version(connection, place)
        for migration in MIGRATIONS[version:]:
            await connection.execute(migration)
        await connection.execute("DELETE FROM outlast_version")
        await connection.execute("INSERT INTO outlast_version VALUES ($1)", len(MIGRATIONS))


async def _version(connection: asyncpg.Connection, place: str) -> int:
    """Return the version of the tables; 0 if there are none."""
    if await connection.fetchval("SELECT to_regclass('outlast_version')") is None:
        return 0
    version = await connection.fetchval("SELECT max(version) FROM outlast_version") or 0
    if version > len(MIGRATIONS):
        raise StorageTooNew(
            f"the tables in {place} have version {version}, and this package knows {len(MIGRATIONS)}; "
            "install a newer outlast-postgres"
        )
    return int(version)
