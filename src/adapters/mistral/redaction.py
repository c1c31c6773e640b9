"""Removes secrets from what a server sends back.

Gateways and proxies repeat what they received: the API key can be in an error, in the text of a reply, or in
the name of a tool, as it is or encoded. Everything that leaves a session, and so can be stored, goes through
here.

A secret is found as it is, and in URL encoding, JSON escapes, HTML entities, base64 and hexadecimal, also if
several of these are mixed. A key of fewer than `LENGTH_MIN` characters (such as "none" or "EMPTY", for a
server without keys) is removed from errors only: in replies, an ordinary word would disappear.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from outlast.ports.deltas import Publish
from outlast.ports.llm import ModelReply

HIDDEN = "***"
LENGTH_MIN = 8

_ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
_SAFE = ("", "/", "/+=", "+=")
_ESCAPES = ("%", "\\", "&")
"""The characters with which an encoding of single characters begins. Such encodings can be mixed."""


def hidden(text: str, secrets: Iterable[str]) -> str:
    """Return the text without these secrets."""
    for secret in secrets:
        if secret and _may_have(text, secret):
            text = _pattern(secret).sub(HIDDEN, text)
    return text


def without_secrets(value: Any, secrets: Collection[str]) -> Any:
    """Return a value of JSON without these secrets; the value itself if they are not in it."""
    if isinstance(value, str):
        return hidden(value, secrets)
    if isinstance(value, dict):
        changed = {
            without_secrets(name, secrets): without_secrets(item, secrets) for name, item in value.items()
        }
        is_same = all(value.get(name) is item for name, item in changed.items())
        return value if is_same else changed
    if isinstance(value, list | tuple):
        items = [without_secrets(item, secrets) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value


class SecretRemover:
    """Removes secrets from replies, and from their text while it is written."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [secret for secret in secrets if len(secret) >= LENGTH_MIN]

    def reply(self, reply: ModelReply) -> ModelReply:
        """Return the reply without the secrets."""
        if not self._secrets:
            return reply
        data = reply.model_dump()
        cleaned = without_secrets(data, self._secrets)
        return reply if cleaned is data else ModelReply.model_validate(cleaned)

    def text(self, publish: Publish | None) -> RedactedText | None:
        """Return a function that passes text on to `publish`, without the secrets."""
        return None if publish is None else RedactedText(publish, self._secrets)


class RedactedText:
    """Passes text on. Text that may be the beginning of a secret waits for the next piece."""

    def __init__(self, publish: Publish, secrets: Collection[str]) -> None:
        self._publish = publish
        self._secrets = secrets
        self._kept = ""

    def __call__(self, text: str) -> None:
        text = hidden(self._kept + text, self._secrets)
        begun = max((_begun_in(text, secret) for secret in self._secrets), default=0)
        self._kept = text[len(text) - begun :]
        self._publish(text[: len(text) - begun])

    def end(self) -> None:
        """Pass on what was kept back: no more text comes."""
        if self._kept:
            self._publish(self._kept)
            self._kept = ""


def _begun_in(text: str, secret: str) -> int:
    """Return how many characters at the end of the text may be the beginning of the secret."""
    begun = max(_begun(text, form) for form in _forms(secret))
    if any(escape in text for escape in _ESCAPES):
        starts = range(max(0, len(text) - _ESCAPE_MAX * len(secret)), len(text) - begun)
        begun = next((len(text) - start for start in starts if _is_begun_at(text, start, secret)), begun)
    return begun


def _begun(text: str, form: str) -> int:
    longest = min(len(text), len(form) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(form[:length])), 0)


def _is_begun_at(text: str, place: int, secret: str) -> bool:
    """Return whether the text from this place on is the beginning of the secret, in mixed encodings."""
    for character in _characters(secret):
        if place == len(text):
            return True
        found = character.match(text, place)
        if found is None:
            return _ESCAPE_BEGUN.fullmatch(text, place) is not None
        place = found.end()
    return False  # It is whole, and was removed.


_ESCAPE_MAX = 12
"""The most characters that the encoding of one character has, but for zeros and backslashes."""
_ESCAPE_BEGUN = re.compile(r"%[0-9a-fA-F]{0,5}|\\+[uUxX]?[0-9a-fA-F]{0,3}|&#?[0-9a-zA-Z]{0,8}")


@lru_cache(maxsize=64)
def _characters(secret: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(_character(character)) for character in secret)


def _may_have(text: str, secret: str) -> bool:
    """Return whether the pattern is worth its time: it needs microseconds for each character."""
    if len(secret) < LENGTH_MIN:
        return secret in text
    return any(escape in text for escape in _ESCAPES) or any(form in text for form in _forms(secret))


@lru_cache(maxsize=64)
def _forms(secret: str) -> tuple[str, ...]:
    """Return the secret in every encoding that has one form for it, or a few."""
    base64 = _in_base64(secret)
    urls = [quote(secret, safe=safe) for safe in _SAFE]
    forms = [
        secret,
        *urls,
        *(re.sub("%..", lambda escape: escape[0].lower(), url) for url in urls),
        *base64,
        *(text.replace("+", "-").replace("/", "_") for text in base64),
        secret.encode().hex(),
        secret.encode().hex().upper(),
    ]
    return tuple(dict.fromkeys(forms))


def _in_base64(secret: str) -> list[str]:
    """Return the part of the secret's base64 that does not depend on what is around it, for each position."""
    data = secret.encode()
    texts = []
    for offset in range(3):
        encoded = b64encode(bytes(offset) + data).decode()
        texts.append(encoded[-(-offset * 8 // 6) : (offset + len(data)) * 8 // 6])
    return texts


@lru_cache(maxsize=64)
def _pattern(secret: str) -> re.Pattern[str]:
    if len(secret) < LENGTH_MIN:
        return re.compile(re.escape(secret))
    whole = "".join(_character(character) for character in secret)
    coded = ["".join(_of_base64(character) for character in text) for text in _in_base64(secret)]
    return re.compile("|".join((whole, *coded, f"(?i:{secret.encode().hex()})")))


def _character(character: str) -> str:
    """Return a pattern for a character as it is, and in every encoding of single characters."""
    code = ord(character)
    forms = [
        rf"\\*{re.escape(character)}" if character in '/"\\' else re.escape(character),
        rf"(?i:%(?:25)*{code:02x})",
        rf"\\+(?i:u{code:04x}|x{code:02x})",
        rf"(?i:&#0*{code};|&#x0*{code:x};)",
    ]
    if character in _ENTITIES:
        forms.append(f"&{_ENTITIES[character]};")
    return f"(?:{'|'.join(forms)})"


def _of_base64(character: str) -> str:
    twins = {"+": "+-", "/": "/_"}.get(character, character)
    return f"(?:{'|'.join(map(_character, twins))})"
