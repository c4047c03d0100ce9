"""Bytes and messages: the two planes between coordinator and workers. Knows nothing of nodes, pools or processes."""
