"""One run: its options, its drivers, and the fair race between contestants."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

from benchmarks import peers
from benchmarks.allotment import Allotment
from benchmarks.commands import Call, Command, Start, Stop
from benchmarks.driver_process import ContestantError, DriverProcess, Installation
from benchmarks.report import Report
from benchmarks.summary import rotated

Metrics = Mapping[str, float]

APART = "apart"
"""The driver that only calls functions."""


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
    """How long the run may take. Each question has its part of it; first rounds are always run, the others while there
    is time."""
    restarts_chains: bool = False
    """Start the processes anew for each round: what depends on how they came to lie in memory becomes noise as well."""
    is_quick: bool = False


QUICK = Options(rounds=3, round_s=0.12, idle_s=2.5, deadline_s=8.0, budget_s=50.0, is_quick=True)


@dataclass
class Bench:
    """Use as a context manager: all drivers are closed on exit."""

    options: Options
    report: Report = field(default_factory=Report)
    versions: Mapping[str, Installation] = field(default_factory=dict)
    """If given, these installations of remotemedia, by the names shown, take part instead of others."""
    _drivers: dict[str, DriverProcess] = field(default_factory=dict)
    _banned: set[str] = field(default_factory=set)
    """Contestants that are unavailable or have failed: they do not take part any more."""
    _time: Allotment = field(init=False)

    def __post_init__(self) -> None:
        self._time = Allotment.of(self.options.budget_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for driver in self._drivers.values():
            driver.let_go()  # they end at the same time
        for driver in self._drivers.values():
            self._close(driver)
        self._drivers.clear()

    # -- time ----------------------------------------------------------------------------------------------------------

    def parts(self, names: Sequence[str], weights: Sequence[float]) -> Iterator[str]:
        """The names in turn; while one of them is at work it has its part of the time that is left."""
        whole = self._time
        for name, part in zip(names, whole.split(weights), strict=True):
            self._time = part
            yield name
        self._time = whole

    def cases(self, question: str, cases: Sequence[str]) -> Iterator[str]:
        """The cases of a question in turn, each with an equal part of its time; says on stderr where the run is."""
        for case in self.parts(cases, [1.0] * len(cases)):
            print(f"  {question} {case} ...", file=sys.stderr, flush=True)
            yield case

    def rounds(self, most: int | None = None) -> Iterator[int]:
        """Numbers of the rounds, `most` at most: the first one always, the others while there is time for one more."""
        for turn in range(self.options.rounds if most is None else min(most, self.options.rounds)):
            started = time.monotonic()
            yield turn
            if not self._time.has(time.monotonic() - started):
                return

    # -- races ---------------------------------------------------------------------------------------------------------

    def contestants(self, names: Sequence[str]) -> Sequence[str]:
        """Who takes part: those named, or the versions that this run compares."""
        return tuple(self.versions) or names

    def race(self, question: str, case: str, racers: Sequence[Racer], most_rounds: int | None = None) -> None:
        """Let the racers be measured in turn, each round in another order; who fails drops out of the run."""
        for turn in self.rounds(most_rounds):
            self._one_round(question, case, racers, turn)

    def race_chains(
        self,
        question: str,
        case: str,
        names: Sequence[str],
        start: Start,
        measure: Callable[[DriverProcess], Metrics],
        beside: Sequence[Racer] = (),
    ) -> None:
        """Start the contestants' chains, let `measure` race on them, and the racers `beside` it, and stop them.

        Those that are busy while they have nothing to do would disturb the others: each of them is measured alone.
        """
        names = self.contestants(names)
        quiet = [name for name in names if name not in peers.BUSY_WHILE_IDLE]
        if self.options.restarts_chains:
            for turn in self.rounds():
                with self.chains(question, case, rotated(quiet, turn), start) as chains:
                    self._one_round(question, case, _racers(chains, measure), 0)
            return
        for group in (quiet, *([name] for name in names if name not in quiet)):
            with self.chains(question, case, group, start) as chains:
                self.race(question, case, [*(beside if group is quiet else ()), *_racers(chains, measure)])

    def _one_round(self, question: str, case: str, racers: Sequence[Racer], turn: int) -> None:
        for racer in rotated([racer for racer in racers if racer.name not in self._banned], turn):
            with self._failing_as(question, case, racer.name):
                self.report.add(question, case, racer.name, racer.measure())

    # -- drivers -------------------------------------------------------------------------------------------------------

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
        new = {name: self._driver(name) for name in wanted if name not in self._drivers}
        self._drivers |= new
        for name, driver in new.items():
            with self._failing_as(question, case, name):
                driver.wait_until_up()
        return {name: self._drivers[name] for name in wanted if name in self._drivers}

    @contextmanager
    def fresh_driver(self, contestant: str | None = None) -> Iterator[DriverProcess]:
        """A driver that has done nothing yet, for one use. Raises ContestantError."""
        driver = self._driver(contestant)
        try:
            driver.wait_until_up()
            yield driver
        finally:
            self._close(driver)

    def call_apart(self, call: Call) -> Any:
        """Make the call in a fresh process and return what it gives. Raises ContestantError."""
        with self.fresh_driver() as driver:
            return driver.ask(call, self.options.deadline_s)

    def measure_apart(self, question: str, case: str, metric: str, call: Call) -> None:
        """Make the call in a process that does nothing else but such calls.

        It returns {contestant: a figure per round}, which goes into the report.
        """
        driver = self._drivers.get(APART) or DriverProcess()
        try:
            if APART not in self._drivers:
                driver.wait_until_up()
            figures = driver.ask(call, self.options.deadline_s)
        except ContestantError as failed:
            self.report.fail(question, case, call.function, failed.kind, failed.detail)
            self._drivers.pop(APART, None)
            self._close(driver)
            return
        self._drivers[APART] = driver
        for name, rounds in figures.items():
            for value in rounds:
                self.report.add(question, case, name, {metric: value})

    def _driver(self, name: str | None) -> DriverProcess:
        if name is not None and name in self.versions:
            return DriverProcess(peers.OURS, self.versions[name])
        return DriverProcess(name)

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


def _racers(chains: Mapping[str, DriverProcess], measure: Callable[[DriverProcess], Metrics]) -> list[Racer]:
    return [Racer(name, partial(measure, driver)) for name, driver in chains.items()]
