"""`remotemedia doctor`: does this machine have what worker processes need?"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from remotemedia.cli import output

if TYPE_CHECKING:
    from remotemedia.cli.checks import Check

HELP = "check this machine: versions, shared memory, limits, container traps"
DESCRIPTION = (
    "Check what worker processes need of this machine, one line each: ok, warn or fail, with the remedy. The exit code "
    "is 3 if anything fails, 0 if there are warnings at most."
)
_COLOURS = {"ok": "32", "warn": "33", "fail": "31"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    from remotemedia.cli.checks import all_checks

    checks = all_checks()
    if arguments.json:
        output.print_json([asdict(check) for check in checks])
    else:
        output.say("\n".join(map(_line, checks)))
        counts = [f"{sum(c.status == status for c in checks)} {status}" for status in _COLOURS]
        output.say(", ".join(counts))
    return output.ENVIRONMENT if any(check.status == "fail" for check in checks) else output.OK


def _line(check: Check) -> str:
    status = check.status.ljust(4)
    if output.colours_wanted(sys.stdout):
        status = f"\x1b[{_COLOURS[check.status]}m{status}\x1b[0m"
    remedy = f"\n{' ' * 24}→ {check.remedy}" if check.remedy else ""
    return f"{status}  {check.name:<16}  {check.text}{remedy}"
