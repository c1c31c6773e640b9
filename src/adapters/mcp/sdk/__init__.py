"""What works with MCP's SDK. It is imported when a worker first needs it, since that takes a second."""

from outlast.core.errors import MissingExtra

try:
    import mcp as mcp
except ModuleNotFoundError as error:
    if error.name != "mcp":
        raise
    raise MissingExtra("mcp") from error
