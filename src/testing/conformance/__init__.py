"""The scoreboard: which suites a backend passes, which mistakes they would find in it, how fast it is.

`outlast-conformance` examines a URL or a file of tests. A file holds suites that somebody has inherited. For
a URL, an entry point in the group `outlast.conformance`, with the name of the scheme, names a module that
holds them; such a module asks `place_url()` for the URL.
"""

from __future__ import annotations

import os

ENTRY_POINTS = "outlast.conformance"
PLACE_URL = "OUTLAST_CONFORMANCE_URL"
"""The environment variable with the URL that is examined."""


def place_url(default: str) -> str:
    """Return the URL that is examined; `default` when the suites are run as ordinary tests."""
    return os.environ.get(PLACE_URL) or default
