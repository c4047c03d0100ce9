"""Where a node wants to run, and what it needs there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from remotemedia.core.exceptions import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What `Node(resources=..., host=...)` asks for. Only executors for several machines look at it.

    `resources`: amounts by name: "num_cpus", "num_gpus", "memory" (bytes), or a name that the cluster defines. `host`:
    the name, address or label of a machine. Raises ConfigurationError.
    """

    resources: Mapping[str, float] = field(default_factory=dict)
    host: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.resources, Mapping):
            raise ConfigurationError(
                f"resources={self.resources!r}: expected a mapping of names to amounts, e.g. {{'num_gpus': 1}}"
            )
        for name, amount in self.resources.items():
            if not isinstance(name, str) or not name or not _is_amount(amount):
                raise ConfigurationError(f"resources: {name!r}: {amount!r}: expected a name and a number of at least 0")
        if self.host is not None and (not isinstance(self.host, str) or not self.host):
            raise ConfigurationError(f"host={self.host!r}: expected the name, address or label of a machine, or None")

    def as_entry(self) -> dict[str, Any]:
        """The fields of a manifest's entry that are set."""
        entry: dict[str, Any] = {}
        if self.resources:
            entry["resources"] = dict(self.resources)
        if self.host is not None:
            entry["host"] = self.host
        return entry


def _is_amount(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
