"""Tags as a search attribute of Temporal: one list of keywords, each with the name and the value of a tag.

A namespace must know the attribute before anything can have it; `register` makes it known. Some visibility
stores cannot find quotation marks and backslashes, so a keyword has them as escapes, as it has the sign that
ends the name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    SearchAttributeUpdate,
    TypedSearchAttributes,
)
from temporalio.service import RPCError

from outlast.adapters.temporal.refusals import REFUSALS, refused
from outlast.core.errors import NotSupported, StorageUnavailable

TAGS: Final = SearchAttributeKey.for_keyword_list("OutlastTags")

_ESCAPED = re.compile(r"""[%="'\\]""")
_ESCAPE = re.compile("%([0-9A-F]{2})")


def keyword_of(name: str, value: str) -> str:
    """Return the keyword for a tag."""
    return f"{_escaped(name)}={_escaped(value)}"


def _escaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", text)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)


def attributes_of(tags: Mapping[str, str]) -> TypedSearchAttributes:
    """Return the search attributes of an execution with these tags; none for no tags."""
    keywords = [keyword_of(*tag) for tag in tags.items()]
    return TypedSearchAttributes([SearchAttributePair(TAGS, keywords)] if keywords else [])


def update_of(tags: Mapping[str, str]) -> SearchAttributeUpdate[Sequence[str]]:
    """Return the update after which an execution has exactly these tags."""
    return TAGS.value_set([keyword_of(*tag) for tag in tags.items()]) if tags else TAGS.value_unset()


def tags_in(attributes: TypedSearchAttributes) -> dict[str, str]:
    """Return the tags of an execution."""
    pairs = (keyword.partition("=") for keyword in attributes.get(TAGS) or ())
    return {_unescaped(name): _unescaped(value) for name, _, value in pairs}


def not_registered(namespace: str, what: str) -> NotSupported:
    """Return the error that says how the namespace gets the search attribute."""
    return NotSupported(
        f"namespace {namespace!r} has no search attribute {TAGS.name}, which {what} need; register it once "
        "with `outlast temporal setup --backend temporal://…`"
    )


def is_missing(error: RPCError) -> bool:
    """Return whether the service refuses something because it does not know the search attribute."""
    return TAGS.name in error.message and "search attribute" in error.message


async def is_registered(client: Client) -> bool:
    """Return whether the namespace knows the search attribute."""
    request = ListSearchAttributesRequest(namespace=client.namespace)
    known = await client.operator_service.list_search_attributes(request, retry=True)
    return TAGS.name in known.custom_attributes


async def register(client: Client) -> bool:
    """Make the namespace know the search attribute; return whether that was news to it.

    Raises:
        MissingCredentials: these credentials may not do that.
        StorageUnavailable: the service refuses it for another reason.
    """
    keyword_list = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST
    request = AddSearchAttributesRequest(
        namespace=client.namespace, search_attributes={TAGS.name: keyword_list}
    )
    try:
        if await is_registered(client):
            return False
        await client.operator_service.add_search_attributes(request, retry=True)
    except RPCError as error:
        if error.status in REFUSALS:
            raise refused(f" to the search attributes of {client.namespace!r}", error.message) from error
        raise StorageUnavailable(
            f"Temporal did not register the search attribute {TAGS.name} in namespace {client.namespace!r}: "
            f"{error.message}. On Temporal Cloud, add it there: name {TAGS.name}, type KeywordList"
        ) from error
    return True
