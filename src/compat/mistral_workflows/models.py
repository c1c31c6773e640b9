"""Schedules, which have no counterpart."""

from outlast.compat.mistral_workflows.refusals import SCHEDULE, refusing_all

__getattr__ = refusing_all(__name__, SCHEDULE)
