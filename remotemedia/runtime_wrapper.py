"""The functions of remotemedia.runtime, and the manifest of a list that mixes nodes and node dicts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from remotemedia.core.exceptions import ManifestError
from remotemedia.core.node import Node
from remotemedia.log import get_logger
from remotemedia.manifest import check_items, manifest_text
from remotemedia.manifest_types import VERSION
from remotemedia.runtime import execute_pipeline, execute_pipeline_with_input, run_pipeline

__all__ = ["execute_pipeline", "execute_pipeline_with_input", "run_pipeline"]

_log = get_logger("remotemedia.runtime_wrapper")


def _convert_mixed_list_to_manifest(items: Sequence[Node | dict[str, Any]]) -> str:
    """The manifest, as JSON text, of a list of Nodes and node dicts, each connected to the next.

    Nodes give their entry by `to_manifest()`, dicts are kept as they are; each id (the node_type where there is none)
    becomes `<id>_<index>`. Raises TypeError for other items; ManifestError for an empty list, a dict without node_type
    and params that are no JSON values.
    """
    check_items(items)
    entries = [_entry(item, index) for index, item in enumerate(items)]
    ids = [entry["id"] for entry in entries]
    manifest = {
        "version": VERSION,
        "metadata": {"name": "pipeline"},
        "nodes": entries,
        "connections": [{"from": a, "to": b} for a, b in pairwise(ids)],
    }
    _log.debug("list converted to manifest", ids=ids)
    return manifest_text(manifest)


def _entry(item: Node | dict[str, Any], index: int) -> dict[str, Any]:
    entry = item.to_manifest() if isinstance(item, Node) else item
    if not isinstance(entry.get("node_type"), str):
        raise ManifestError(
            "the field 'node_type' is missing or no string",
            pointer=f"/{index}",
            expected='{"node_type": "...", ...}',
            source="pipeline list",
        )
    return {**entry, "id": f"{entry.get('id', entry['node_type'])}_{index}"}
