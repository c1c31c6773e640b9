"""The Temporal plugin, joined with the parts of the runtime that it needs."""

from __future__ import annotations

from datetime import timedelta

import outlast
from outlast.composition.toolkit import toolkit
from outlast.core.errors import MissingExtra

try:
    from outlast.adapters.temporal.plugin import AgentsPlugin
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "temporalio":
        raise
    raise MissingExtra("temporal") from error


class OutlastPlugin(AgentsPlugin):
    """Agents in Temporal workflows of your own: `Client.connect(..., plugins=[OutlastPlugin()])`.

    In a `@temporalio.workflow.defn`, `Runner.run` and calls of activities are then durable, whatever client,
    converter, codec, interceptors and sandbox you have. Workers made from the client perform the steps; they
    need the workflows themselves registered, and no dynamic activity of your own beside the plugin's. Give
    the plugin to your `Replayer` as well. An error of this library that leaves a workflow fails it.

    Args:
        lease: The silence of a worker after which its steps are tried again; Temporal's heartbeat timeout.
    """

    def __init__(self, *, lease: timedelta = timedelta(seconds=10)) -> None:
        super().__init__(toolkit(), lease)
        # A name that is first loaded inside Temporal's sandbox would be a second copy.
        for name in outlast.__all__:
            getattr(outlast, name)
