"""The layout of records in a journal: a list with a tag and the fields, in an order that never changes.

A journal is kept for long, and every byte of it is written, sent and read. The names of the fields are the
same in each record, so a list does without them. The tag says which class the record has. A field that has
its default is left out at the end of the list, and is null before its end.

    ["s","run:0/t1/model","model","call_model",{"agent":"clerk"},"mistral-medium-latest"]
    ["d",1700000000.25,"run:0/t1/model",{"entries":[…],"usage":{…}}]

Whoever adds a field to a record adds it at the end of its layout, with a default. A field that has a default
and may be None has None as its default, so that null always means the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outlast.core.json import encode, quickly_encoded
from outlast.core.values import Value


class Layout:
    """How the records of a class are written.

    Args:
        tag: The first item, which no other layout has.
        cls: The class of the records.
        fields: The names of all fields but `type`, in the order in which they are written.
    """

    def __init__(self, tag: str, cls: type[Value], *fields: str) -> None:
        self.tag = tag
        self.cls = cls
        self.fields = fields
        declared = cls.model_fields
        self._defaults = {
            name: declared[name].get_default(call_default_factory=True)
            for name in fields
            if not declared[name].is_required()
        }

    def written(self, record: Value) -> bytes:
        """Return the bytes of a record; raises ValueError when what it carries is nested too deep."""
        items = self._items(record.__dict__)
        return quickly_encoded(items) or encode(self._items(record.model_dump()))

    def read(self, items: Sequence[Any]) -> Value:
        """Return the record that these items, the tag apart, are.

        Raises:
            ValueError: these items are not a record of the class.
        """
        if len(items) > len(self.fields):
            raise ValueError(f"{len(items)} fields, where {len(self.fields)} are known")
        given = {
            name: item
            for name, item in zip(self.fields, items, strict=False)
            if item is not None or name not in self._defaults
        }
        return self.cls.model_validate(given)

    def _items(self, values: Mapping[str, Any]) -> list[Any]:
        items: list[Any] = [self.tag]
        length = 1
        for name in self.fields:
            value = values[name]
            if name in self._defaults and value == self._defaults[name]:
                value = None
            else:
                length = len(items) + 1
            items.append(value)
        return items[:length]
