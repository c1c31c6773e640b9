"""Connectors that workflow code calls, which have no counterpart."""

from outlast.compat.mistral_workflows.refusals import CONNECTOR, refusing_all

__getattr__ = refusing_all(__name__, CONNECTOR)
