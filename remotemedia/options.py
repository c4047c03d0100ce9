"""Keyword options of a call, as settings: every field of PoolConfig and of the settings inside it, by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from remotemedia.config import PoolConfig
from remotemedia.nodes.registry import close_matches


def pool_config(options: Mapping[str, Any], *, caller: str) -> PoolConfig:
    """`options["config"]` (default: PoolConfig()) with the other options put in, e.g. `queue_frames=8`.

    Raises TypeError for a name that is no setting (with close matches and the list of settings) or a config that is no
    PoolConfig; ConfigurationError for a value that cannot work.
    """
    changes = dict(options)
    config = changes.pop("config", None) or PoolConfig()
    if not isinstance(config, PoolConfig):
        raise TypeError(f"{caller}(config=...) takes a PoolConfig, not {type(config).__name__}")
    groups = {name: value for name in _names(config) if is_dataclass(value := getattr(config, name))}
    _check_names(changes, config, groups, caller)
    own = {name: value for name, value in changes.items() if name in _names(config)}
    for group, settings in groups.items():
        inner = {name: value for name, value in changes.items() if name in _names(settings)}
        if inner:
            own[group] = replace(own.get(group, settings), **inner)
    return replace(config, **own) if own else config


def _check_names(changes: Mapping[str, Any], config: Any, groups: Mapping[str, Any], caller: str) -> None:
    known = [*_names(config), *(name for settings in groups.values() for name in _names(settings))]
    for name in changes:
        if name not in known:
            near = close_matches(name, known)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise TypeError(f"{caller}() has no option {name!r}.{hint} Options: config, {', '.join(known)}")


def _names(settings: Any) -> list[str]:
    return [field.name for field in fields(settings)]
