"""The durability contract suite in parts; `contract` puts them together."""
