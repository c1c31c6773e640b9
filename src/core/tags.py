"""Tags: short texts on an execution, name to value, by which people find it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from unicodedata import category

from outlast.core.errors import DefinitionError
from outlast.core.events import EventKind, TaggedData
from outlast.core.records import AnyRecord, EventEmitted

TAGS_MAX: Final = 20
"""The most tags that people give to one execution, and the most that its code gives to it."""

ALL_TAGS_MAX: Final = 2 * TAGS_MAX
"""The most tags of one execution: the code cannot know how many others there are."""

TAG_CHARACTERS_MAX: Final = 200
"""The longest name of a tag, and the longest value."""


def checked_tags(tags: Mapping[str, str], *, most: int = TAGS_MAX) -> dict[str, str]:
    """Return a copy of `tags`, if an execution may have them.

    Raises:
        DefinitionError: there are more than `most`, or one is not text that every backend can keep.
    """
    checked = checked_changes(tags, most=most)
    kept = {name: value for name, value in checked.items() if value is not None}
    if len(kept) < len(checked):
        raise DefinitionError("a tag has a text as its value; None only removes one")
    return kept


def checked_changes(changes: Mapping[str, str | None], *, most: int = TAGS_MAX) -> dict[str, str | None]:
    """Return a copy of changes to tags, where None stands for a tag to be removed.

    Raises:
        DefinitionError: as `checked_tags`.
    """
    if not isinstance(changes, Mapping):
        raise DefinitionError(f"tags are a mapping of text to text, not {type(changes).__name__}")
    if len(changes) > most:
        raise DefinitionError(f"an execution has at most {most} tags; these are {len(changes)}")
    for name, value in changes.items():
        _check("the name of a tag", name)
        if not name:
            raise DefinitionError("the name of a tag is empty; give it one")
        if value is not None:
            _check(f"the value of tag {name!r}", value)
    return dict(changes)


def changed(tags: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return `tags` after `changes`."""
    both = {**tags, **changes}
    return {name: value for name, value in both.items() if value is not None}


def changes_in(records: Iterable[AnyRecord]) -> dict[str, str | None]:
    """Return the changes to tags that workflow code made in these records."""
    changes: dict[str, str | None] = {}
    for record in records:
        if isinstance(record, EventEmitted) and record.kind == EventKind.TAGGED:
            changes |= TaggedData.model_validate(record.data).changes
    return changes


def too_many(count: int) -> DefinitionError:
    """Return the error of a change after which an execution would have `count` tags."""
    return DefinitionError(
        f"an execution has at most {TAGS_MAX} tags, and this one would have {count}; remove some of them by "
        "giving them the value None"
    )


def _check(what: str, text: object) -> None:
    if not isinstance(text, str):
        raise DefinitionError(f"{what} is text, not {type(text).__name__}")
    if len(text) > TAG_CHARACTERS_MAX:
        raise DefinitionError(
            f"{what} has {len(text)} characters, and at most {TAG_CHARACTERS_MAX} are allowed: {text[:40]!r}"
        )
    if any(category(character) in ("Cc", "Cs") for character in text):
        raise DefinitionError(f"{what} has control characters or half of a surrogate pair: {text[:40]!r}")
