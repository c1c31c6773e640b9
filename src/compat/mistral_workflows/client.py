"""Clients of Mistral's API, which have no counterpart."""

from outlast.compat.mistral_workflows.refusals import CLIENT, refusing_all

__getattr__ = refusing_all(__name__, CLIENT)
