"""`remotemedia metrics`: the numbers of the running pools for Prometheus."""

from __future__ import annotations

import argparse

from remotemedia.cli import output
from remotemedia.core.exceptions import ConfigurationError

HELP = "serve the numbers of the running pools to Prometheus"
DESCRIPTION = (
    "Serve /metrics, the numbers of every pool that this user runs on this machine, and /healthz, 200 if all workers "
    "take frames, else 503 with the reasons. The programs with the pools need no change: they are asked as "
    "`remotemedia top` asks them."
)
EPILOG = """\
examples:
  remotemedia metrics --port 9464
  remotemedia metrics --once        the text, for a textfile collector
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", nargs="?", help="only this one: the beginning of its id, or the pid of its process")
    parser.add_argument("--port", type=int, default=9464, help="default: 9464")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: 127.0.0.1 (only here)")
    parser.add_argument("--once", action="store_true", help="print the metrics, and end")


def run(arguments: argparse.Namespace) -> int:
    try:
        import prometheus_client  # noqa: F401 - to be missed before anything else
    except ImportError as error:
        raise ImportError("metrics need prometheus_client: pip install 'remotemedia[metrics]'") from error
    from remotemedia.metrics import MetricsServer, PoolsCollector

    if arguments.once:
        collector = PoolsCollector(arguments.pool)
        output.say(collector.text().decode().rstrip())
        collector.close()
        return output.OK
    if not 0 <= arguments.port < 2**16:
        raise ConfigurationError(f"--port {arguments.port}: expected 0 to 65535")
    server = MetricsServer(arguments.port, host=arguments.host, wanted=arguments.pool)
    try:
        output.complain(f"serving http://{arguments.host}:{server.port}/metrics and /healthz; Ctrl-C ends")
        server.serve()
    finally:
        server.close()
    return output.OK
