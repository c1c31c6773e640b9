"""How values travel through Temporal: as the JSON that every journal of ours holds, keys in their order."""

from __future__ import annotations

import dataclasses
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    BinaryNullPayloadConverter,
    CompositePayloadConverter,
    DataConverter,
    EncodingPayloadConverter,
)

from durable_agents.core.errors import PayloadTooLarge
from durable_agents.core.json import JSON, decode, encode

LIMIT_BYTES = 2 * 1024 * 1024 - 16 * 1024
"""The largest payload: Temporal takes 2 MiB, less what it wraps around it."""


class _JsonPayloads(EncodingPayloadConverter):
    """Temporal's own `json/plain`, but written by us: its converter sorts keys, and a model reads them."""

    @property
    def encoding(self) -> str:
        return "json/plain"

    def to_payload(self, value: Any) -> Payload:
        return Payload(metadata={"encoding": b"json/plain"}, data=encode(value))

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        return decode(payload.data)


class _Payloads(CompositePayloadConverter):
    def __init__(self) -> None:
        super().__init__(BinaryNullPayloadConverter(), _JsonPayloads())


data_converter = dataclasses.replace(DataConverter.default, payload_converter_class=_Payloads)


def check_size(what: str, value: JSON) -> None:
    """Raise `PayloadTooLarge` if Temporal would not take `value`."""
    size = len(encode(value))
    if size > LIMIT_BYTES:
        raise PayloadTooLarge(what, size, LIMIT_BYTES)
