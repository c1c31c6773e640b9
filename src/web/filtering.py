"""The filters of a list, as they stand in the address of the page: so a filtered list can be bookmarked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from outlast.core.errors import DefinitionError
from outlast.ports.finding import Where

TAG = "tag."
"""A parameter of this name and that of a tag has the value of the tag."""


def where_of(parameters: Mapping[str, str]) -> Where:
    """Return the filter of a request; a parameter that is empty filters nothing, except for a tag.

    Raises:
        DefinitionError: one of them cannot be that of any execution.
    """
    return Where(
        workflow=parameters.get("workflow") or None,
        status=parameters.get("status") or None,
        waiting_for=parameters.get("waiting_for") or None,
        id_prefix=parameters.get("id_prefix") or None,
        tags={name.removeprefix(TAG): value for name, value in parameters.items() if name.startswith(TAG)},
        created_after=_time_in(parameters, "created_after"),
        created_before=_time_in(parameters, "created_before"),
    )


def _time_in(parameters: Mapping[str, str], name: str) -> datetime | None:
    text = parameters.get(name)
    if not text:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise DefinitionError(f"{name} must be a time such as 2026-11-29T10:00:00Z") from None
