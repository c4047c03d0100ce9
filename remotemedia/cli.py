"""The command line: `remotemedia run | validate | nodes | version | clean`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from remotemedia import cli_output as output
from remotemedia._version import __version__
from remotemedia.core.exceptions import ConfigurationError, ManifestError
from remotemedia.core.pipeline import Pipeline

_EXIT_CODES = "exit codes: 0 done, 1 the pipeline failed, 2 usage or manifest, 3 environment, 130 Ctrl-C, 143 SIGTERM"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with `argv` (default: the program's arguments) and return the exit code."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed the help or the error
        return stop.code if isinstance(stop.code, int) else output.USAGE
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except KeyboardInterrupt:
        output.complain("interrupted")
        return output.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; keep the interpreter from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return output.PIPELINE_ERROR
    except Exception as error:  # noqa: BLE001 - the end of the line: told to the user in one line
        if arguments.debug:
            traceback.print_exception(error)
        output.complain(output.error_text(error))
        return output.exit_code(error)


# -- arguments -------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks and debug logs")
    parser = argparse.ArgumentParser(
        prog="remotemedia", description="Run media pipelines over worker processes.", epilog=_EXIT_CODES
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, parents=[common], epilog=_EXIT_CODES)
        sub.set_defaults(command=command)
        return sub

    run = add("run", _run, "run the pipeline of a manifest")
    _add_manifest_arguments(run)
    _add_run_arguments(run)
    validate = add("validate", _validate, "check a manifest, and that its nodes can be made, without running it")
    _add_manifest_arguments(validate)
    validate.add_argument("--graph", choices=["mermaid"], help="print the graph")
    nodes = add("nodes", _nodes, "list the node types")
    nodes.add_argument("--json", action="store_true", help="as JSON")
    version = add("version", _version, "print the version")
    version.add_argument("--json", action="store_true", help="with Python, platform and libraries, as JSON")
    clean = add("clean", _clean, "remove what dead pools left in shared memory and the runtime directory")
    clean.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _add_manifest_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", help="manifest file (JSON); - reads standard input")
    parser.add_argument(
        "--set", action="append", default=[], metavar="ID.PARAM=VALUE", dest="settings",
        help="set a parameter of a node; VALUE is JSON, or else text",
    )  # fmt: skip
    parser.add_argument(
        "--allow", action="append", default=[], metavar="MODULE",
        help="module from which the manifest may take node classes (module:Class), besides the registered ones",
    )  # fmt: skip


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--executor", help="where unmarked nodes run: inline (default; overrides marks), multiprocess")
    parser.add_argument("--input", metavar="JSON", help="the input: a JSON list of items, or one item; @FILE reads it")
    parser.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, default=None, help="live numbers (default: on a terminal)"
    )
    parser.add_argument("--metrics", action="store_true", help="print calls, latency and copies of each node")
    parser.add_argument("--json", action="store_true", help="print outputs (and metrics) as one JSON document")
    parser.add_argument("--log-format", choices=["console", "json"], default="console", help="default: console")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="warning")


# -- manifests -------------------------------------------------------------------------------------------------------


def _load(arguments: argparse.Namespace) -> Pipeline:
    """The pipeline of the manifest with the --set values in it."""
    source = "standard input" if arguments.manifest == "-" else arguments.manifest
    try:
        text = sys.stdin.read() if arguments.manifest == "-" else Path(arguments.manifest).read_text(encoding="utf-8")
        manifest = json.loads(text)
    except OSError as error:
        raise ConfigurationError(f"cannot read {source}: {error.strerror}") from None
    except ValueError as error:
        raise ManifestError(f"it is not JSON: {error}", source=source) from None
    if not isinstance(manifest, dict):
        raise ManifestError("it is not an object", expected='{"version": "v1", "nodes": [...]}', source=source)
    for setting in arguments.settings:
        _apply(manifest, setting)
    if arguments.allow:
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - so that the user's own modules are found, as with python -m
    return Pipeline.from_manifest(manifest, allow_modules=tuple(arguments.allow), source=source)


def _apply(manifest: dict[str, Any], setting: str) -> None:
    target, equals, text = setting.partition("=")
    node_id, dot, parameter = target.rpartition(".")
    if not (equals and dot and node_id and parameter):
        raise ConfigurationError(f"--set {setting}: expected ID.PARAM=VALUE")
    entries = {str(e.get("id")): e for e in manifest.get("nodes", ()) if isinstance(e, dict)}
    if node_id not in entries:
        raise ConfigurationError(f"--set {setting}: there is no node {node_id!r}; there are {', '.join(entries)}")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    entries[node_id].setdefault("params", {})[parameter] = value


def _input(text: str | None) -> list[Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    except OSError as error:
        raise ConfigurationError(f"--input {text}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"--input is not JSON: {error}") from None
    return value if isinstance(value, list) else [value]


# -- commands --------------------------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    output.configure_logging(arguments.log_format, "debug" if arguments.debug else arguments.log_level)
    pipeline, items = _load(arguments), _input(arguments.input)
    try:
        result = asyncio.run(_until_terminated(_execute(pipeline, items, arguments)))
    except _Terminated:
        output.complain("terminated")
        return output.TERMINATED
    _print_result(result, arguments)
    return output.OK


def _execute(pipeline: Pipeline, items: list[Any] | None, arguments: argparse.Namespace) -> Coroutine[Any, Any, Any]:
    from remotemedia.runtime import execute_pipeline

    progress = sys.stderr.isatty() if arguments.progress is None else arguments.progress
    return execute_pipeline(pipeline, items, executor=arguments.executor, enable_metrics=True, progress=progress)


class _Terminated(Exception):  # noqa: N818 - not an error
    """SIGTERM arrived and the pipeline has been stopped."""


async def _until_terminated(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`; SIGTERM cancels it, so that nodes are cleaned up, and raises _Terminated."""
    task = asyncio.ensure_future(work)
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await task
    except asyncio.CancelledError:
        if not terminated:
            raise
        raise _Terminated from None


def _print_result(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    outputs = result["outputs"]
    if arguments.json:
        output.print_json(result if arguments.metrics else {"outputs": outputs})
        return
    output.print_outputs(outputs if isinstance(outputs, list) else [] if outputs is None else [outputs])
    if arguments.metrics:
        output.complain(output.metrics_table(result["metrics"]["node_metrics"]))


def _validate(arguments: argparse.Namespace) -> int:
    graph = _load(arguments).graph
    if arguments.graph:
        output.say(output.mermaid(graph))
    else:
        output.say(f"ok: {len(graph.nodes)} nodes, {len(graph.edges)} connections")
    return output.OK


def _nodes(arguments: argparse.Namespace) -> int:
    from remotemedia.nodes.registry import get_node_class, registered_nodes

    texts = {name: (get_node_class(name).__doc__ or "").strip().partition("\n")[0] for name in registered_nodes()}
    if arguments.json:
        output.print_json(texts)
    else:
        width = max(map(len, texts))
        output.say("\n".join(f"{name.ljust(width)}  {text}" for name, text in texts.items()))
    return output.OK


def _version(arguments: argparse.Namespace) -> int:
    if not arguments.json:
        output.say(f"remotemedia {__version__}")
        return output.OK
    libraries = {}
    for name in ("numpy", "iceoryx2", "pyzmq", "cloudpickle", "msgspec", "psutil", "structlog", "av", "rich"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            libraries[name] = metadata.version(name)
    facts = {"python": platform.python_version(), "platform": platform.platform(), "libraries": libraries}
    output.print_json({"remotemedia": __version__, **facts})
    return output.OK


def _clean(arguments: argparse.Namespace) -> int:
    from remotemedia.workers.sweep import sweep

    report = sweep()
    if arguments.json:
        output.print_json(report)
    else:
        output.say(f"removed {report.pools} dead pools, {report.files} files, {report.bytes / 1e6:.1f} MB of memory")
    return output.OK
