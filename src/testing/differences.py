"""The difference of two runs: which turns, calls, replies and outcomes are not the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from outlast.testing.recordings import Exported, Recording, export_in, recording_of


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two runs. It is false if there is none; `str` returns it in words.

    Ids, times and attempts do not count.
    """

    before: Recording
    after: Recording

    @property
    def parts(self) -> tuple[str, ...]:
        """The titles of what differs, such as "turn 2", "activities", "usage" or "end"."""
        before, after = self.before.parts, self.after.parts
        titles = [title for title in before if title != "end"]
        titles += [title for title in after if title not in before]
        return tuple(title for title in [*titles, "end"] if before.get(title) != after.get(title))

    def __bool__(self) -> bool:
        return bool(self.parts)

    def __str__(self) -> str:
        names = f"{self.before.id!r} and {self.after.id!r}"
        if not self:
            return f"{names} do not differ"
        before, after = self.before.parts, self.after.parts
        lines = [f"{names} differ in {', '.join(self.parts)}"]
        for title in self.parts:
            lines += [title, *_marked(before.get(title, ()), after.get(title, ()))]
        return "\n".join(lines)


def _marked(before: tuple[str, ...], after: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of both, with a mark for those that only one has."""
    for kind, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            yield from (f"    {line}" for line in before[i:j])
            continue
        yield from (f"  - {line}" for line in before[i:j])
        yield from (f"  + {line}" for line in after[k:m])


def compare(before: Exported | Recording, after: Exported | Recording, /) -> Difference:
    """Return the difference of two runs, each an export (see `replay`) or a `Recording`.

    Raises:
        CannotRerun: one is not an export.
    """
    return Difference(_recording(before), _recording(after))


def _recording(run: Exported | Recording) -> Recording:
    return run if isinstance(run, Recording) else recording_of(export_in(run))
