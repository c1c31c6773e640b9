"""The things that a history begins with, beside the arguments of the entrypoint: they are in its input."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from outlast.core.json import JSON, decode, encode
from outlast.core.records import INPUTS, AnyRecord, Input, read_record
from outlast.ports.live_code import START, Beginning


@dataclass(frozen=True, slots=True)
class Carried:
    """The things that a history begins with, beside the entrypoint's arguments."""

    beginning: Beginning = START
    inputs: Sequence[Input] = ()
    """The inputs that came when the code had already asked to continue as new."""
    journal: Sequence[AnyRecord] = ()
    """The records with which a retry, a fork or an import begins; they are from the first one on."""
    held: str | None = None
    """If given, the run begins no step and takes no input until somebody resumes it, for this reason."""

    def written(self, *, is_packed: bool = False) -> JSON:
        """Return it as JSON; the journal may be packed, which takes a fraction of the bytes."""
        start = self.beginning
        written: dict[str, JSON] = {
            "histories": start.histories,
            "events": start.events,
            "records": start.records,
            "inputs": [record.to_data() for record in self.inputs],
        }
        if self.journal:
            journal: JSON = [record.to_data() for record in self.journal]
            written["journal"] = _packed(journal) if is_packed else journal
        if self.held is not None:
            written["held"] = self.held
        return written

    @classmethod
    def read(cls, value: Any) -> Carried | None:
        """Return what `written` gave; None if `value` is something else."""
        match value:
            case {"histories": int(), "events": int(), "records": int(), "inputs": list(inputs)}:
                start = Beginning(value["histories"], value["events"], value["records"])
                read = [read_record(one) for one in inputs]
                written = value.get("journal", [])
                records = _unpacked(written) if isinstance(written, str) else written
                journal = [read_record(one) for one in records]
                inputs = [record for record in read if isinstance(record, INPUTS)]
                return cls(start, inputs, journal, value.get("held"))
        return None


def _packed(value: JSON) -> str:
    return b64encode(zlib.compress(encode(value))).decode()


def _unpacked(text: str) -> Any:
    return decode(zlib.decompress(b64decode(text)))
