"""The modules that use MCP's SDK. They are imported when a worker first needs them: it takes a second."""

from outlast.core.errors import MissingExtra

try:
    import mcp as mcp
except ModuleNotFoundError as error:
    if error.name != "mcp":
        raise
    raise MissingExtra("mcp") from error
