"""Who may import whom, who owns which third-party library, and what stays out of the worker's start."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The first entry whose name is the module's, or a package around it, holds. What is not listed may import anything.
MAY_IMPORT = {
    "remotemedia.ipc": ["remotemedia.ipc", "remotemedia.core.exceptions", "remotemedia.core.remote_errors",
                        "remotemedia.core.figures", "remotemedia.core.frames", "remotemedia.config",
                        "remotemedia.events"],
    "remotemedia.core.pipeline": ["remotemedia.core", "remotemedia.config", "remotemedia.events",
                                  "remotemedia.manifest", "remotemedia.executors", "remotemedia.log"],
    "remotemedia.core": ["remotemedia.core"],
    "remotemedia.config": ["remotemedia.core.exceptions"],
    "remotemedia.nodes": ["remotemedia.nodes", "remotemedia.core", "remotemedia.config"],
    "remotemedia.workers.failpoints": ["remotemedia.testing"],
    "remotemedia.workers.serving": ["remotemedia.status", "remotemedia.workers"],
    "remotemedia.workers": ["remotemedia.workers", "remotemedia.ipc", "remotemedia.core", "remotemedia.config",
                            "remotemedia.events", "remotemedia._version"],
    # What travels between hosts is taken apart by the codec of the frames, and ordered by their flags.
    "remotemedia.executors.ray": ["remotemedia.executors", "remotemedia.workers", "remotemedia.core",
                                  "remotemedia.config", "remotemedia.log", "remotemedia._version",
                                  "remotemedia.ipc.codec", "remotemedia.ipc.channel"],
    "remotemedia.executors": ["remotemedia.executors", "remotemedia.workers", "remotemedia.core", "remotemedia.config",
                              "remotemedia.events", "remotemedia.log"],
    "remotemedia.instrumentation": ["remotemedia.instrumentation", "remotemedia.events", "remotemedia.core.exceptions",
                                    "remotemedia.log"],
}  # fmt: skip
MUST_NOT_IMPORT = {
    "remotemedia.workers": ["remotemedia.core.pipeline"],
    "remotemedia.executors": ["remotemedia.core.pipeline"],
    "remotemedia.nodes": ["remotemedia.core.pipeline"],
}
OWNERS = {
    "iceoryx2": ["remotemedia.ipc.participant", "remotemedia.ipc.reaping"],
    "zmq": ["remotemedia.ipc.control"],
    "cloudpickle": ["remotemedia.core.node_pickler", "remotemedia.ipc.codec"],
    "psutil": ["remotemedia.workers.limits", "remotemedia.instrumentation", "remotemedia.testing"],
    "structlog": ["remotemedia.log", "remotemedia.instrumentation", "remotemedia.cli"],
    "av": ["remotemedia.nodes.pyav"],
    "rich": ["remotemedia.progress", "remotemedia.cli", "remotemedia.testing.meter"],
    "shtab": ["remotemedia.cli"],
    "prometheus_client": ["remotemedia.metrics", "remotemedia.cli.metrics"],
    "opentelemetry": ["remotemedia.workers.tracing"],
    "ray": ["remotemedia.executors.ray"],
}
HEAVY = {"asyncio", "structlog", "psutil", "rich", "av", "opentelemetry"}
"""What no worker pays for, unless its node asks for it."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its import name; the links `workers` and `ipc` are followed by that name."""
    found = {}
    for folder in ("remotemedia", "workers", "ipc"):
        prefix = folder if folder == "remotemedia" else f"remotemedia.{folder}"
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if folder == "remotemedia" and parts[0] in ("workers", "ipc"):
                continue  # Python 3.13 walks into links; they are listed under their own folders
            name = ".".join((prefix, *(part for part in parts if part != "__init__")))
            found[name] = ast.parse(path.read_text(), str(path))
    return found


def imports(tree: ast.Module) -> set[str]:
    """Dotted names that are imported anywhere in a module, inside functions too."""
    found = set()
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"line {statement.lineno}: imports are absolute"
            found |= {f"{statement.module}.{alias.name}" for alias in statement.names}
    return found


def within(name: str, packages: list[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def rule(table: dict[str, list[str]], name: str) -> list[str] | None:
    return next((rules for package, rules in table.items() if within(name, [package])), None)


def test_the_tree_is_seen_whole():
    assert {"remotemedia.core.node", "remotemedia.ipc.codec", "remotemedia.workers.child.worker"} <= set(modules())


def test_who_may_import_whom():
    wrong = []
    for name, tree in modules().items():
        allowed, forbidden = rule(MAY_IMPORT, name), rule(MUST_NOT_IMPORT, name) or []
        for target in imports(tree):
            outside = within(target, ["remotemedia"]) and not within(target, allowed or ["remotemedia"])
            if outside or within(target, forbidden):
                wrong.append(f"{name} imports {target}")
    assert wrong == []


@pytest.mark.parametrize("library", OWNERS)
def test_each_library_has_its_owners(library):
    users = [name for name, tree in modules().items() if any(within(target, [library]) for target in imports(tree))]
    assert [name for name in users if not within(name, OWNERS[library])] == []


def test_import_roots():
    for name, tree in modules().items():
        assert not any(within(target, ["workers", "ipc", "tests", "benchmarks"]) for target in imports(tree)), name


def test_no_wall_clock_and_no_sleeping():
    wrong = []
    for name, tree in modules().items():
        # Waits for conditions in other processes; gives a process time to size what it may just have made.
        sleeps = within(name, ["remotemedia.testing", "remotemedia.ipc.reaping"])
        banned = {"time"} if sleeps else {"time", "sleep"}
        names = {target for target in imports(tree) if target in {f"time.{word}" for word in banned}}
        for part in ast.walk(tree):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "time":
                names |= {f"time.{part.attr}"} if part.attr in banned else set()
        wrong += [f"{name}: {use}" for use in names]
    assert wrong == []


def loaded_by(code: str) -> set[str]:
    """The modules that are in a fresh interpreter after `code`."""
    code += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True)
    return set(done.stdout.split())


def import_all(package: str) -> str:
    names = [name for name in modules() if within(name, [package]) and not name.endswith("__main__")]
    assert names
    return "\n".join(f"import {name}" for name in names)


@pytest.mark.parametrize("package", ["remotemedia.workers.child", "remotemedia.core", "remotemedia.ipc.shm_channel"])
def test_what_a_worker_imports_is_light(package):
    assert loaded_by(import_all(package)) & HEAVY == set()


def test_import_remotemedia_is_light():
    lazy = HEAVY | {"numpy", "zmq", "iceoryx2", "cloudpickle", "msgspec", "ray"}
    assert loaded_by("import remotemedia") & lazy == set()


def test_a_pool_that_does_not_trace_loads_nothing_of_it():
    assert loaded_by("import remotemedia.workers.pool") & {"opentelemetry", "remotemedia.workers.tracing"} == set()
def test_what_needs_no_ray_does_not_import_it():
    pure = ["executors", "executors.ray.islands", "executors.ray.relay", "executors.ray.intake"]
    assert "ray" not in loaded_by("\n".join(f"import remotemedia.{name}" for name in pure))
