"""The updates by which a person steers a run at work: every execution takes them, without a handler."""

from __future__ import annotations

SAY_UPDATE = "outlast.say"
"""The name under which a message for a run is sent to its execution, among its updates."""
INTERRUPT_UPDATE = "outlast.interrupt"
"""The name under which a run is interrupted."""
