"""Secrets: reading them from the environment, and removing them from output, logs and errors."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import SecretStr

from outlast.core.errors import ToolServerError

REFERENCE = re.compile(r"(?:(?P<scheme>[A-Za-z]+) )?env:(?P<variable>[A-Za-z_][A-Za-z0-9_]*)\Z")
"""`env:TOKEN`, or in a header `Bearer env:TOKEN`: the variable to read from the worker's environment."""

HIDDEN = "***"
SHORTEST = 4
"""The length of the shortest secret that is removed. A shorter value is in many texts by chance."""


def resolved(values: Mapping[str, SecretStr | str], server: str) -> dict[str, str]:
    """Return the plain values; those that are references are read from the environment of this process.

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
                server,
                f"{name} is {value!r}, but {reference['variable']} is not set where the worker runs; "
                "set it there",
            )
        found[name] = f"{reference['scheme']} {secret}" if reference["scheme"] else secret
    return found


class Redaction:
    """Replaces secrets by `***` in everything that is sent, logged or stored."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found: set[str] = set()
        for secret in secrets:
            # The secret may follow a scheme (`Bearer abc`), and JSON may write it with escapes.
            for one in (secret, secret.partition(" ")[2]):
                found |= {one, json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1]}
        self._secrets = sorted((one for one in found if len(one) >= SHORTEST), key=len, reverse=True)

    @classmethod
    def of(cls, given: Mapping[str, SecretStr | str], values: Mapping[str, str]) -> Redaction:
        """Return a redaction of those `values` that were `given` as a `SecretStr` or as a reference."""
        hidden = (
            values[name]
            for name, value in given.items()
            if isinstance(value, SecretStr) or REFERENCE.match(value)
        )
        return cls(hidden)

    @property
    def hides_anything(self) -> bool:
        """Return whether there is a secret."""
        return bool(self._secrets)

    def text(self, text: str) -> str:
        """Return `text` with every secret replaced."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def value(self, value: Any) -> Any:
        """Return a JSON value with every secret replaced, in its keys, too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self.text(name): self.value(item) for name, item in value.items()}
        return value
