"""What the commands work on: a pipeline named on the command line, and its input."""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from remotemedia.core.exceptions import ConfigurationError, ManifestError
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.core.pipeline import Pipeline

_OBJECT = re.compile(r"(?P<module>[\w.]+|.*\.py):(?P<name>[A-Za-z_][\w.]*)")
_WHAT = "a manifest file (pipeline.json), module:pipeline, or file.py:pipeline"


def add_pipeline_arguments(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """The arguments that `load_graph` reads."""
    text = "manifest file (JSON; - reads standard input), or module:NAME or file.py:NAME of a Pipeline, a list of nodes"
    text += ", or a function that returns one"
    parser.add_argument("pipeline", help=text, nargs="?" if optional else None)
    parser.add_argument(
        "--set", action="append", default=[], metavar="ID.PARAM=VALUE", dest="settings",
        help="set a parameter of a node of the manifest; VALUE is JSON, or else text",
    )  # fmt: skip
    parser.add_argument(
        "--allow", action="append", default=[], metavar="MODULE",
        help="module from which the manifest may take node classes (module:Class), besides the registered ones",
    )  # fmt: skip


def load_graph(arguments: argparse.Namespace) -> Graph:
    """The pipeline that the arguments name, as a graph. Raises ConfigurationError, ManifestError."""
    from remotemedia.manifest import to_graph

    target = arguments.pipeline
    match = _OBJECT.fullmatch(target)
    if match and not Path(target).exists():
        if arguments.settings:
            raise ConfigurationError(f"--set changes parameters in a manifest, and {target} is none")
        found = _object(match["module"], match["name"], target)
        try:
            return to_graph(found)
        except TypeError as error:
            raise ConfigurationError(f"{target} is no pipeline: {error}") from None
    return _manifest(target, arguments).graph


# -- manifests -------------------------------------------------------------------------------------------------------


def _manifest(target: str, arguments: argparse.Namespace) -> Pipeline:
    source = "standard input" if target == "-" else target
    try:
        text = sys.stdin.read() if target == "-" else Path(target).read_text(encoding="utf-8")
        manifest = json.loads(text)
    except OSError as error:
        hint = "" if Path(target).suffix == ".json" else f"; expected {_WHAT}"
        raise ConfigurationError(f"cannot read {source}: {error.strerror}{hint}") from None
    except ValueError as error:
        raise ManifestError(f"it is not JSON: {error}", source=source) from None
    if not isinstance(manifest, dict):
        raise ManifestError("it is not an object", expected='{"version": "v1", "nodes": [...]}', source=source)
    for setting in arguments.settings:
        _apply(manifest, setting)
    if arguments.allow:
        _find_own_modules()
    return Pipeline.from_manifest(manifest, allow_modules=tuple(arguments.allow), source=source)


def _apply(manifest: dict[str, Any], setting: str) -> None:
    target, equals, text = setting.partition("=")
    node_id, dot, parameter = target.rpartition(".")
    if not (equals and dot and node_id and parameter):
        raise ConfigurationError(f"--set {setting}: expected ID.PARAM=VALUE")
    nodes = manifest.get("nodes")
    entries = {str(e.get("id")): e for e in (nodes if isinstance(nodes, list) else ()) if isinstance(e, dict)}
    if node_id not in entries:
        raise ConfigurationError(f"--set {setting}: there is no node {node_id!r}; there are {', '.join(entries)}")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    params = entries[node_id].setdefault("params", {})
    if isinstance(params, dict):  # else the manifest's own error is to come
        params[parameter] = value


# -- objects ---------------------------------------------------------------------------------------------------------


def _find_own_modules() -> None:
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - so that the user's own modules are found, as with python -m


def _object(module_name: str, name: str, target: str) -> Any:
    module = _module(module_name, target)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"{target}: {module_name} has no {name!r}{_hint(module, name)}")
        found = getattr(found, part)
    if isinstance(found, Node):
        return [found]
    if callable(found) and not isinstance(found, (Pipeline, type)):
        found = found()
    return found


def _module(name: str, target: str) -> Any:
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise ConfigurationError(f"{target}: there is no file {name}")
        sys.path.insert(0, str(path.resolve().parent))
        name = path.stem
    else:
        _find_own_modules()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            where = "in this folder or among the installed packages"
            raise ConfigurationError(f"{target}: there is no module {error.name!r} {where}") from None
        raise


def _hint(module: Any, name: str) -> str:
    near = difflib.get_close_matches(name, [found for found in vars(module) if not found.startswith("_")], n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    names = [found for found, value in vars(module).items() if isinstance(value, Pipeline)]
    return f"; its pipelines: {', '.join(names)}" if names else ""


# -- input -----------------------------------------------------------------------------------------------------------


def add_input_argument(parser: argparse.ArgumentParser) -> None:
    """The argument that `load_input` reads."""
    parser.add_argument(
        "--input", metavar="WHAT",
        help="the input: a JSON list of items, or one item; @FILE reads it from a file of JSON, JSON lines, or a "
        "recording; @- from standard input. Without it the first node makes the frames",
    )  # fmt: skip


def load_input(text: str | None) -> Iterable[Any] | None:
    """The items of --input. Raises ConfigurationError."""
    from remotemedia.recording import Recording, is_recording

    if text is None:
        return None
    try:
        if text == "@-":
            return _items(sys.stdin.read(), "standard input")
        if text.startswith("@"):
            if is_recording(text[1:]):
                return (frame.value for frame in Recording(text[1:]))
            return _items(Path(text[1:]).read_text(encoding="utf-8"), text[1:])
    except OSError as error:
        raise ConfigurationError(f"--input {text}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"--input {text}: it is neither JSON nor a recording") from None
    return _items(text, "--input")


def _items(text: str, source: str) -> list[Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if source == "--input" or len(lines) < 2:  # noqa: PLR2004 - one line that is not JSON is not JSON lines
            hint = "; @FILE reads a file" if source == "--input" and Path(text).exists() else ""
            raise ConfigurationError(f"{source} is not JSON: {error}{hint}") from None
        return [_line(line, number, source) for number, line in enumerate(lines, 1)]
    return value if isinstance(value, list) else [value]


def _line(line: str, number: int, source: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ConfigurationError(f"line {number} of {source} is not JSON: {error}") from None
