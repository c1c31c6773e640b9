"""Ages: times that are given as a number and a unit, such as 30d."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age_of(text: str) -> timedelta | None:
    """Return the time that a text such as 45s, 90m, 12h, 30d or 2w means; None if it is not of that form."""
    matched = re.fullmatch(r"(\d{1,5}(?:\.\d{1,3})?)\s*([smhdw])", text.strip())
    return None if matched is None else timedelta(**{_UNITS[matched[2]]: float(matched[1])})
