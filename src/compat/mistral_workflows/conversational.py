"""Parts of Mistral's chat application, which have no counterpart."""

from outlast.compat.mistral_workflows.refusals import CHAT, refusing_all

__getattr__ = refusing_all(__name__, CHAT)
