"""The plugins of Mistral Workflows that have a counterpart: the one for agents."""
