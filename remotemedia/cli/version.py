"""`remotemedia version`."""

from __future__ import annotations

import argparse
import contextlib
import platform
from importlib import metadata

from remotemedia._version import __version__
from remotemedia.cli import output

HELP = "print the version"
DESCRIPTION = "Print the version; with --json, also those of Python, the platform and the libraries."
LIBRARIES = ("numpy", "iceoryx2", "pyzmq", "cloudpickle", "msgspec", "psutil", "structlog")
OPTIONAL = ("rich", "shtab", "av", "prometheus-client")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="with Python, platform and libraries, as JSON")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.json:
        output.say(f"remotemedia {__version__}")
        return output.OK
    facts = {"python": platform.python_version(), "platform": platform.platform(), "libraries": library_versions()}
    output.print_json({"remotemedia": __version__, **facts})
    return output.OK


def library_versions() -> dict[str, str]:
    """Of the libraries that are installed."""
    found = {}
    for name in (*LIBRARIES, *OPTIONAL):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
