"""With what a worker's interpreter is started: command, environment, and what it is told first."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from remotemedia.config import PoolConfig, WorkerLimits
from remotemedia.core.exceptions import ConfigurationError

_ENTRY = Path(__file__).parent / "child" / "__main__.py"
_NOT_INHERITED = frozenset({"PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT"})

_DEPTH = "REMOTEMEDIA_DEPTH"
_MAX_DEPTH = 2


def refuse_deep_nesting() -> None:
    """Raise ConfigurationError in a worker of a worker's pool: a module that starts a pool when it is imported, and so
    again in each worker that imports it, would otherwise go on without end.
    """
    if int(os.environ.get(_DEPTH, "0")) >= _MAX_DEPTH:
        raise ConfigurationError(
            f"nesting limit: this process is a worker of a pool in a worker, {_MAX_DEPTH} levels deep, and would start "
            "another pool. Does a module start it while it is imported? Then put that under "
            '`if __name__ == "__main__":` or into a function'
        )


def command(config: PoolConfig) -> list[str]:
    """What starts a worker; to be followed by the descriptor of its boot data."""
    return [config.python_executable or sys.executable, "-P", str(_ENTRY)]


def environment(limits: WorkerLimits) -> dict[str, str]:
    """The environment of a worker."""
    own = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    return {**own, **limits.environment, _DEPTH: str(int(os.environ.get(_DEPTH, "0")) + 1)}


def boot_data(parent_pid: int, **what: Any) -> dict[str, Any]:
    """What a process is told first: `parent_pid`, at whose death it ends, and what it is: `worker` (a BootSpec as
    builtins), `orders_fd` (a spare) or `control_fd` (a fork server).
    """
    paths = tuple(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100 - "" means the present directory
    return {"sys_path": paths, "parent_pid": parent_pid, **what}
