"""Values on their way through Temporal: the same JSON as in our journals, with keys in their order."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.converter import (
    BinaryNullPayloadConverter,
    CompositePayloadConverter,
    DataConverter,
    EncodingPayloadConverter,
    PayloadCodec,
)

from outlast.core.errors import ConfigurationError, check_size
from outlast.core.json import JSON, decode, encode

LIMIT_BYTES = 2 * 1024 * 1024 - 16 * 1024
"""The largest payload: Temporal takes 2 MiB, including its own data around the payload."""


class _JsonPayloads(EncodingPayloadConverter):
    """Temporal's own `json/plain`, but written by us: its converter sorts keys, and a model reads them."""

    @property
    def encoding(self) -> str:
        return "json/plain"

    def to_payload(self, value: Any) -> Payload:
        return _payload(encode(value))

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        return decode(payload.data)


def _payload(text: bytes) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=text)


class _Payloads(CompositePayloadConverter):
    def __init__(self) -> None:
        super().__init__(BinaryNullPayloadConverter(), _JsonPayloads())

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        for payload in payloads:
            encoding = payload.metadata.get("encoding", b"").decode("ascii", "replace")
            if encoding.encode() not in self.converters:
                raise ConfigurationError(
                    f"a payload is encoded as {encoding!r}, which this process cannot read: connect with the "
                    "payload_codec or data_converter that its writer has"
                )
        return super().from_payloads(payloads, type_hints)


data_converter = dataclasses.replace(DataConverter.default, payload_converter_class=_Payloads)
"""The default converter of `TemporalBackend`; `dataclasses.replace` makes variants of it."""


class ExplainingCodec(PayloadCodec):
    """A codec whose failures name their cause: mostly that writer and reader have different keys."""

    def __init__(self, codec: PayloadCodec) -> None:
        self._codec = codec

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return await self._codec.encode(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        try:
            return await self._codec.decode(payloads)
        except Exception as error:
            name = type(self._codec).__name__
            raise ConfigurationError(
                f"payload codec {name} cannot decode what Temporal holds ({type(error).__name__}); "
                "connect with the codec and the key that its writer has"
            ) from error


def writes_json(converter: DataConverter) -> bool:
    """Return whether the converter writes JSON as we do; any other one may change values."""
    return converter.payload_converter_class is _Payloads


def as_written(text: bytes) -> RawValue:
    """Return JSON text as a value, for a converter that `writes_json`."""
    return RawValue(_payload(text))


def limit_of(converter: DataConverter) -> int:
    """Return the largest size of a value: any size, if Temporal stores large values elsewhere.

    The output of a codec may be a third larger, as with base64; only Temporal sees that.
    """
    if converter.external_storage is not None:
        return sys.maxsize
    return LIMIT_BYTES if converter.payload_codec is None else LIMIT_BYTES * 3 // 4


def check_payload(what: str, value: JSON, limit_bytes: int) -> None:
    """Raise `PayloadTooLarge` if Temporal would not take `value`."""
    check_size(what, len(encode(value)), limit_bytes)
