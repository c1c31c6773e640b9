"""Values that must not be seen: where they come from, and how they are kept out of what is said."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import SecretStr

from outlast.core.errors import ToolServerError

REFERENCE = re.compile(r"(?:(?P<scheme>[A-Za-z]+) )?env:(?P<variable>[A-Za-z_][A-Za-z0-9_]*)\Z")
"""`env:TOKEN`, or in a header `Bearer env:TOKEN`: what to read where the worker runs."""

HIDDEN = "***"
SHORTEST = 4
"""A shorter value would stand in texts that have nothing to do with it, and is no secret to anybody."""


def resolved(values: Mapping[str, SecretStr | str], server: str) -> dict[str, str]:
    """Return the values themselves, read from the environment of this process where they refer to it.

    Raises:
        ToolServerError: a variable is not set.
    """
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, SecretStr):
            found[name] = value.get_secret_value()
            continue
        reference = REFERENCE.match(value)
        if reference is None:
            found[name] = value
            continue
        secret = os.environ.get(reference["variable"], "").strip()
        if not secret:
            raise ToolServerError(
                server, f"{name} is {value!r}, and {reference['variable']} is not set where the worker runs"
            )
        found[name] = f"{reference['scheme']} {secret}" if reference["scheme"] else secret
    return found


class Redaction:
    """Takes secrets out of whatever is said, logged or kept."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found: set[str] = set()
        for secret in secrets:
            # What follows a scheme (`Bearer abc`) is the secret, and JSON may spell it in another way.
            for one in (secret, secret.partition(" ")[2]):
                found |= {one, json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1]}
        self._secrets = sorted((one for one in found if len(one) >= SHORTEST), key=len, reverse=True)

    @classmethod
    def of(cls, given: Mapping[str, SecretStr | str], values: Mapping[str, str]) -> Redaction:
        """Return what hides the `values` of those that were `given` as secrets or by reference."""
        hidden = (
            values[name]
            for name, value in given.items()
            if isinstance(value, SecretStr) or REFERENCE.match(value)
        )
        return cls(hidden)

    @property
    def hides_anything(self) -> bool:
        """Whether there is a secret."""
        return bool(self._secrets)

    def text(self, text: str) -> str:
        """Return `text` without a secret."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def value(self, value: Any) -> Any:
        """Return a JSON value without a secret, in its keys neither."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self.text(name): self.value(item) for name, item in value.items()}
        return value
