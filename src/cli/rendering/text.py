"""Text for people: safe for a terminal, on one line where it must be, and in the reader's time zone."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from outlast.core.json import JSON, encode

LENGTH: Final = 90
"""The length to which a line is cut where the output is not a terminal."""

_UNSEEN: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
"""Characters that are printable for Python, and that nobody sees: Default_Ignorable_Code_Point of Unicode."""


def _is_seen(character: str) -> bool:
    return character.isprintable() and character not in _UNSEEN


def printable(text: str) -> str:
    """Return `text` on one line, without characters that would steer a terminal or that nobody sees."""
    return "".join(character if _is_seen(character) else " " for character in text)


def printable_lines(text: str) -> str:
    """Return `text` with its lines, each as `printable` returns it."""
    return "\n".join(map(printable, text.splitlines()))


def printable_text(text: str) -> str:
    """Return a piece of a text, its line breaks kept and the rest as `printable` returns it."""
    return "".join(one if _is_seen(one) or one == "\n" else " " for one in text)


def shortened(text: str, length: int | None = LENGTH) -> str:
    """Return `text` on one line, cut to `length` if there is one."""
    line = " ".join(printable(text).split())
    return line if length is None or len(line) <= length else f"{line[: length - 1]}…"


def compact(value: JSON) -> str:
    """Return JSON as text; text is returned as it is."""
    return value if isinstance(value, str) else encode(value).decode()


def local_time(at: datetime) -> str:
    """Return date and time to the second, in the reader's time zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def local_minute(at: datetime) -> str:
    """Return date and time to the minute, in the reader's time zone."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M")


def duration(seconds: float) -> str:
    """Return a time in the one or two largest units that matter, such as "4 ms", "2.5 s" or "1 d 4 h"."""
    if 0 < seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{max(0.0, seconds):.1f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
