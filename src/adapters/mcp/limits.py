"""The limits of what a server may send: nobody knows who wrote it, and it shares a worker with others.

A worker reads messages in its event loop, and what is read at once cannot be interrupted. So the limits of a
message bound the time of reading it, to some 50 ms, as well as the memory. The limits are far above what a
model can use.
"""

from __future__ import annotations

MESSAGE_BYTES_MAX = 8 * 1024 * 1024
"""The size of one message, on every transport, after decompression. It is also the number of bytes that a
server may send one after the other without a message among them."""
MESSAGE_VALUES_MAX = 50_000
"""The number of JSON values in one message."""
MESSAGE_DEPTH_MAX = 180
"""The levels of lists and objects in one message. The parser of MCP's SDK gives up at 200."""

CONTENT_BLOCKS_MAX = 1_000
"""The number of content blocks in one result."""
TYPED_VALUES_MAX = 5_000
"""The number of JSON values in the parts that MCP's SDK makes objects of, which takes longer: the
content of a result, an answer that is not a list of tools, and a message that does not answer us."""

PAGES_MAX = 1_000
"""The number of pages of a list of tools."""
TOOLS_MAX = 2_000
"""The number of tools that one server offers, without those that the configuration leaves out."""
LIST_BYTES_MAX = 4 * 1024 * 1024
"""The size of all these tools together. Each execution keeps them in its journal."""
TOOL_BYTES_MAX = 256 * 1024
"""The size of one tool in a list: its name, its description and its schemas."""
NAME_CHARACTERS_MAX = 1_000
"""The length of the name of a tool. (Models get a name that is cut to 64 characters.)"""
LIST_VALUES_MAX = 200_000
"""The number of JSON values in the schemas of all tools of one server together."""
SCHEMA_VALUES_MAX = 5_000
"""The number of JSON values in one schema."""
SCHEMA_EXPANDED_MAX = 100_000
"""The number of subschemas of one schema when every reference is written out."""
CHECK_COST_MAX = 25_000
"""The work of checking one value against one schema; see `sdk.schema_checks`. It takes some 30 ms."""
CHECKED_VALUES_MAX = 5_000
"""The number of JSON values in a value that is checked; more are not checked."""

UNASKED_MESSAGES_PER_SECOND = 200
"""The number of messages that are read per second though they do not answer a request of ours: notifications,
requests, unknown answers. The server has to wait with the others."""
UNASKED_MESSAGES_AT_ONCE = 2_000
"""The number of them that are read without a pause."""
UNREADABLE_COST = 50
"""A message that cannot be read counts as this many, because it is logged."""
REQUESTS_AT_ONCE = 100
"""The number of requests of a server that are answered at a time. Others get no answer."""

LINE_BYTES_MAX = 4096
"""The length of a line of its stderr in the log; more of it is cut off."""
LINES_PER_SECOND = 100
"""The number of lines of its stderr that are logged per second; others are left out, and counted."""
LINES_AT_ONCE = 2_000
"""The number of them that are logged without a pause."""
STDERR_BYTES_PER_SECOND = 4 * 1024 * 1024
"""The size of the part of its stderr that is read per second; the server has to wait with the rest."""
STDERR_BYTES_AT_ONCE = 4 * 1024 * 1024
"""The size of the part of its stderr that is read without a pause."""

CALL_GRACE_SECONDS = 5.0
"""The time for which a call may be under way after its timeout: a server that does not read delays it."""
