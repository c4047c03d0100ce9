"""One run: its options, its drivers, and the fair race between contestants."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

from benchmarks.commands import Call, Command, Start, Stop
from benchmarks.driver_process import ContestantError, DriverProcess
from benchmarks.report import Report
from benchmarks.summary import rotated

Metrics = Mapping[str, float]


class Racer(NamedTuple):
    """Who takes part in a race, and what measures it once."""

    name: str
    measure: Callable[[], Metrics]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How long and how often. Durations in seconds."""

    rounds: int = 7
    round_s: float = 0.7
    """One contestant's share of one round."""
    idle_s: float = 8.0
    """How long idle processes are watched."""
    deadline_s: float = 40.0
    """Beyond its expected duration a command may take this long; then its contestant counts as hung."""
    budget_s: float | None = None
    """After this long no new case is begun."""
    is_quick: bool = False


QUICK = Options(rounds=3, round_s=0.12, idle_s=5.0, deadline_s=8.0, budget_s=40.0, is_quick=True)


@dataclass
class Bench:
    """Use as a context manager: all drivers are closed on exit."""

    options: Options
    report: Report = field(default_factory=Report)
    _drivers: dict[str, DriverProcess] = field(default_factory=dict)
    _banned: set[str] = field(default_factory=set)
    """Contestants that are unavailable or have failed: they do not take part any more."""
    _started: float = field(default_factory=time.monotonic)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for driver in self._drivers.values():
            self._close(driver)
        self._drivers.clear()

    def has_time(self, question: str, case: str) -> bool:
        """Whether another case may begin; if not, the report says that it was left out."""
        budget = self.options.budget_s
        if budget is None or time.monotonic() - self._started < budget:
            print(f"  {question} {case} ...", file=sys.stderr, flush=True)
            return True
        self.report.fail(question, case, "all", "out of time", f"the run's budget of {budget:g} s is used up")
        return False

    def race(self, question: str, case: str, racers: Sequence[Racer]) -> None:
        """Let the racers be measured in turn, each round in another order; who fails drops out of the run."""
        running = list(racers)
        for turn in range(self.options.rounds):
            for racer in rotated(running, turn):
                with self._failing_as(question, case, racer.name):
                    self.report.add(question, case, racer.name, racer.measure())
            running = [racer for racer in running if racer.name not in self._banned]

    @contextmanager
    def chains(
        self, question: str, case: str, names: Sequence[str], start: Start
    ) -> Iterator[dict[str, DriverProcess]]:
        """Those of the contestants that could start, each with its chain running; the chains are stopped on exit."""
        yield self._ask_all(question, case, self.drivers(question, case, names), start)
        self._ask_all(question, case, {name: self._drivers[name] for name in names if name in self._drivers}, Stop())

    def drivers(self, question: str, case: str, names: Sequence[str]) -> dict[str, DriverProcess]:
        """The contestants' drivers, kept for the whole run; those that cannot take part are left out."""
        wanted = [name for name in names if name not in self._banned]
        new = {name: DriverProcess(name) for name in wanted if name not in self._drivers}
        self._drivers |= new
        for name, driver in new.items():
            with self._failing_as(question, case, name):
                driver.wait_until_up()
        return {name: self._drivers[name] for name in wanted if name in self._drivers}

    @contextmanager
    def fresh_driver(self, contestant: str | None = None) -> Iterator[DriverProcess]:
        """A driver that has done nothing yet, for one use. Raises ContestantError."""
        driver = DriverProcess(contestant)
        try:
            driver.wait_until_up()
            yield driver
        finally:
            self._close(driver)

    def measure_apart(self, question: str, case: str, metric: str, call: Call) -> None:
        """Make the call in a fresh process; it returns {contestant: a figure per round}, which goes into the report."""
        try:
            with self.fresh_driver() as driver:
                figures = driver.ask(call, self.options.deadline_s)
        except ContestantError as failed:
            self.report.fail(question, case, call.function, failed.kind, failed.detail)
            return
        for name, rounds in figures.items():
            for value in rounds:
                self.report.add(question, case, name, {metric: value})

    def _ask_all(
        self, question: str, case: str, drivers: Mapping[str, DriverProcess], command: Command
    ) -> dict[str, DriverProcess]:
        """Send the command to all, then collect the answers, so that they work on it at the same time."""
        for driver in drivers.values():
            driver.send(command)
        for name, driver in drivers.items():
            with self._failing_as(question, case, name):
                driver.answer(self.options.deadline_s)
        return {name: driver for name, driver in drivers.items() if name not in self._banned}

    @contextmanager
    def _failing_as(self, question: str, case: str, name: str) -> Iterator[None]:
        """Turn ContestantError into an entry of the report, and end the contestant."""
        try:
            yield
        except ContestantError as failed:
            self._banned.add(name)
            self.report.fail(question, case, name, failed.kind, failed.detail)
            driver = self._drivers.pop(name, None)
            if driver is not None:
                self._close(driver)

    def _close(self, driver: DriverProcess) -> None:
        left = driver.close()
        self.report.leftovers += [f"{driver.contestant}: {item}" for item in left]
