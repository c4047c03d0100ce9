"""`remotemedia clean`: what dead pools left."""

from __future__ import annotations

import argparse

from remotemedia.cli import output

HELP = "remove what dead pools left in shared memory and the runtime directory"
DESCRIPTION = (
    "End the workers of pools whose coordinator has died, and remove their shared memory, sockets and directories. "
    "Pools that live are not touched. Every new pool does this as well when it starts."
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    from remotemedia.workers.running import find_pools
    from remotemedia.workers.sweep import SweepReport, sweep

    if arguments.dry_run:
        dead = [place.shared_memory() for place in find_pools() if not place.alive]
        report = SweepReport(len(dead), sum(files for files, _ in dead), sum(size for _, size in dead))
    else:
        report = sweep()
    if arguments.json:
        output.print_json(report)
        return output.OK
    verb = "would remove" if arguments.dry_run else "removed"
    output.say(f"{verb} {report.pools} dead pools, {report.files} files, {report.bytes / 1e6:.1f} MB of memory")
    return output.OK
