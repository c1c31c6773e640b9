"""The interpreter that runs a reader's program: a warning is an error there too."""

from __future__ import annotations

import sys

PYTHON = [
    *(sys.executable, "-W", "error"),
    # As in pyproject.toml: an import of mistralai warns on Python 3.12 and 3.13.
    *("-W", "ignore:ast.:DeprecationWarning:jsonpath.jsonpath"),
]
