"""Shipped for tests: synthetic media, leak checks, nodes that fail on purpose."""
