"""Tags in the file: a column with all of an execution's, and the table `tag`, which is the index of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from outlast.core.errors import ExecutionNotFound
from outlast.core.json import decode, encode
from outlast.core.tags import changed, too_many


def tags_of(text: str | None) -> dict[str, str]:
    """Return the tags that the column holds."""
    return {} if text is None else decode(text)


def change_tags(
    connection: sqlite3.Connection, id: str, changes: Mapping[str, str | None], *, tags_max: int | None
) -> None:
    """Apply changes; with `tags_max`, raise DefinitionError if the tags would become more than that."""
    row = connection.execute("SELECT created_at, tags FROM execution WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise ExecutionNotFound(id)
    created_at, old = row[0], tags_of(row[1])
    new = changed(old, changes)
    if tags_max is not None and len(new) > max(tags_max, len(old)):
        raise too_many(len(new))
    set_tags(connection, id, created_at, old, new)


def set_tags(
    connection: sqlite3.Connection, id: str, created_at: float, old: Mapping[str, str], new: Mapping[str, str]
) -> None:
    text = encode(dict(new)).decode() if new else None
    connection.execute("UPDATE execution SET tags = ? WHERE id = ?", (text, id))
    index_tags(connection, id, created_at, old, new)


def index_tags(
    connection: sqlite3.Connection, id: str, created_at: float, old: Mapping[str, str], new: Mapping[str, str]
) -> None:
    """Take the `old` tags out of the index, and put the `new` ones in."""
    gone, come = old.items() - new.items(), new.items() - old.items()
    connection.executemany(
        "DELETE FROM tag WHERE name = ? AND value = ? AND created_at = ? AND id = ?",
        [(*tag, created_at, id) for tag in gone],
    )
    connection.executemany("INSERT INTO tag VALUES (?, ?, ?, ?)", [(*tag, created_at, id) for tag in come])
