"""A whole pool on the machine of tests.unit.model_machine, and schedules for it.

Real are: plan, fabric, what a worker does to connect, stages, inboxes, senders, receivers, lanes, snapshots. Modelled
are the processes, iceoryx2, the eventfds, and the coordinator, who feeds and collects as the exchange does.
"""

from __future__ import annotations

import contextlib
import random
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from remotemedia.config import ChannelConfig, PoolConfig
from remotemedia.core.graph import Graph
from remotemedia.core.node import Node
from remotemedia.ipc.channel import END, LAST, MARK, START, Stamp
from remotemedia.ipc.doorbell import ACKNOWLEDGEMENT, CREDIT, DATA, Doorbell, OwnDoorbell
from remotemedia.ipc.lane import _POSITIONS, WHICH
from remotemedia.ipc.messages import Failed
from remotemedia.ipc.references import Lender, Origin, References
from remotemedia.ipc.shm_receiver import ShmReceiver
from remotemedia.ipc.shm_sender import ShmSender
from remotemedia.workers.board import Board
from remotemedia.workers.boot import BootSpec
from remotemedia.workers.child.worker import Worker
from remotemedia.workers.completion import Completion
from remotemedia.workers.delivery import Window
from remotemedia.workers.fabric import Fabric
from remotemedia.workers.failpoints import failpoints_of
from remotemedia.workers.inbox import Inbox
from remotemedia.workers.plan import FEED, make_plan
from remotemedia.workers.stage import Stage
from tests.unit.model_machine import (
    LedgerView,
    Machine,
    Participant,
    Process,
    Violation,
    Waiter,
    installed,
    lose_unreceived,
    reap,
)

_POSITION_WORDS = 8
_MOST_STEPS = 200_000

# -- nodes: all deterministic for their input and, where they have one, their state ------------------------------------


def _array(*values: int) -> Any:
    return np.array(values, np.int64)


class Affine(Node):
    """3 x + k."""

    def __init__(self, k: int = 1) -> None:
        super().__init__(f"affine{k}", k=k, enable_state=False)
        self.k = k

    def process(self, data: Any) -> Any:
        return data * 3 + self.k


class Holding(Affine):
    """The same, holding views of inputs that it has long finished with."""

    def __init__(self, k: int = 1) -> None:
        super().__init__(k)
        self.held: Any = None

    def process(self, data: Any) -> Any:
        if self.held is None or data[0] % 2:
            self.held = data
        return super().process(data)


class Pass(Node):
    """What it gets, or a part of it that is all of it."""

    def process(self, data: Any) -> Any:
        return data if data[0] % 2 else data[:]


class HoldingPass(Node):
    """The same, holding views of some inputs that must not change."""

    def __init__(self) -> None:
        super().__init__("holding", enable_state=False)
        self.held: Any = []

    def process(self, data: Any) -> Any:
        check_held(self.held)
        if data[0] % 3:
            self.held = [*self.held, (data, data.tolist())][-2:]
        return data


class Parity(Node):
    """0 or 1."""

    def process(self, data: Any) -> Any:
        return data % 2


class Cache(HoldingPass):
    """For equal inputs the same array, the one that came first."""

    def process(self, data: Any) -> Any:
        check_held(self.held)
        for array, was in self.held:
            if was == data.tolist():
                return array
        self.held.append((data, data.tolist()))
        return data


class Wrap(Node):
    """Puts what it gets beside something."""

    def process(self, data: Any) -> Any:
        return {"beside": _array(-int(data[0])), "data": data}


class Unwrap(HoldingPass):
    """The array alone."""

    def process(self, data: Any) -> Any:
        assert data["beside"][0] == -data["data"][0]
        return super().process(data["data"])


def check_held(held: list[tuple[Any, list[int]]]) -> None:
    """Raises Violation if an array is not what it was."""
    for array, was in held:
        if array.tolist() != was:
            raise Violation(f"a view has changed from {was} to {array.tolist()}")


class Split(Node):
    """None, one or two outputs."""

    def __init__(self, most: int = 3) -> None:
        super().__init__("split", most=most, enable_state=False)
        self.most = most

    def process(self, data: Any) -> Iterator[Any]:
        for i in range(int(data[0]) % self.most):
            yield data * 10 + i


class Odd(Node):
    """Odd ones only."""

    def process(self, data: Any) -> Any:
        return data if data[0] % 2 else None


class Total(Node):
    """With the sum of all so far, which survives by snapshots; and that sum at the end of the stream."""

    total = 0

    def process(self, data: Any) -> Any:
        self.total += int(data[0])
        return _array(int(data[0]), self.total)

    def flush(self) -> Any:
        total, self.total = self.total, 0
        return _array(-1, total)

    def snapshot_state(self) -> bytes:
        return self.total.to_bytes(8, "little")

    def restore_state(self, state: memoryview) -> None:
        self.total = int.from_bytes(state, "little")


class Numbers(Node):
    """A source of n numbers."""

    def __init__(self, n: int, name: str = "numbers") -> None:
        super().__init__(name, n=n, enable_state=False)
        self.n = n

    def process(self) -> Iterator[Any]:  # type: ignore[override]
        for i in range(self.n):
            yield _array(i + 1)


@dataclass(frozen=True)
class Setup:
    """A pipeline and what it is given."""

    nodes: tuple[Callable[[], Node], ...]
    edges: tuple[tuple[int, int], ...]
    streams: tuple[int, ...] = (4,)
    """How many inputs each stream has; of own sources: only how many runs there are."""
    tickets: int = 2
    snapshot_frames: int = 3
    window: int = 6
    slot_bytes: int = 64
    given_up: int | None = None
    """A number that the next generations of all stages are told not to try again."""

    def graph(self) -> Graph:
        return Graph(tuple(make() for make in self.nodes), tuple(f"n{i}" for i in range(len(self.nodes))), self.edges)


_CHAIN = ((0, 1), (1, 2))
_DIAMOND = ((0, 1), (0, 2), (1, 3), (2, 3))
SETUPS = {
    "two": Setup((Affine, Holding), ((0, 1),), (3,)),
    "chain": Setup((Affine, Holding, Affine), _CHAIN, (5, 2), tickets=3),
    "filter": Setup((Split, Odd, Affine), _CHAIN, (6,)),
    "state": Setup((Affine, Total, Holding), _CHAIN, (6, 3)),
    "fan-out": Setup((Affine, Holding, lambda: Affine(2)), ((0, 1), (0, 2)), (5,)),
    "diamond": Setup((Affine, Odd, Holding, Affine), _DIAMOND, (5, 1), tickets=3),
    "deep diamond": Setup((Split, Split, Holding, Total), _DIAMOND, (5,), tickets=7),
    "skip": Setup((Affine, Holding, Affine), ((0, 1), (0, 2), (1, 2)), (6,), tickets=3),
    "burst skip": Setup((Affine, lambda: Split(4), Affine), ((0, 1), (0, 2), (1, 2)), (7,), tickets=4, window=8),
    "late state": Setup((Affine, Holding, Odd, Total), _DIAMOND, (4, 3), snapshot_frames=1),
    "pass": Setup((Pass, HoldingPass, Pass), _CHAIN, (7, 3), tickets=12, window=8),
    "pass two": Setup((HoldingPass, Pass), ((0, 1),), (9,), tickets=8),
    "pass diamond": Setup((Pass, HoldingPass, Odd, Pass), _DIAMOND, (6, 2), tickets=16),
    "pass skip": Setup((HoldingPass, Pass, Pass), ((0, 1), (0, 2), (1, 2)), (7,), tickets=16),
    "pass state": Setup((HoldingPass, Pass, Total), _CHAIN, (6, 3), tickets=12),
    "cache": Setup((Parity, Cache, Pass), _CHAIN, (9,), tickets=12),
    "beside": Setup((Pass, Wrap, Unwrap, Pass), (*_CHAIN, (2, 3)), (6, 2), tickets=16, slot_bytes=1024),
    "sources": Setup(
        (lambda: Numbers(2), lambda: Numbers(4, "more"), Affine, Odd, Total), ((0, 2), (1, 3), (2, 4), (3, 4)), (0, 0)
    ),
}


@dataclass
class Seat:
    """A stage's place, one process after the other."""

    index: int
    process: Process
    generation: int = 0
    stage: Stage | None = None
    failure: str | None = None
    is_dead: bool = False


class _Client:
    """In place of the connection to the coordinator."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat

    def post(self, message: Any) -> None:
        if isinstance(message, Failed):
            self._seat.failure = f"{message.phase}: {message.error}"


def _run_to_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """What it awaits lets its thread wait, so it never yields."""
    with contextlib.suppress(StopIteration):
        coroutine.send(None)
        raise AssertionError("a stage awaited something else than its doorbell")


@dataclass
class Result:
    """What came out: per frame number, index, flags and data (None: a mark)."""

    frames: list[tuple[int, int, int, list[int] | None]] = field(default_factory=list)


class Pool:
    """All processes of one pool, the coordinator among them, which never dies."""

    def __init__(self, setup: Setup, choose: Callable[[int], int]) -> None:
        self.setup = setup
        graph = setup.graph()
        config = ChannelConfig(queue_frames=setup.tickets, slot_bytes=setup.slot_bytes, max_frame_bytes=4096)
        self._plan = make_plan(graph, ("multiprocess",) * len(graph.nodes), config, retain=True)
        self._config = PoolConfig(snapshot_frames=setup.snapshot_frames, snapshot_s=1e6)
        lanes = {lane for route in self._plan.routes.values() if route.shared for lane in route.shared.lanes}
        self._plain = frozenset({lane + at for lane in lanes for at in _POSITIONS} | set(self._plan.boards))
        words = {*self._plan.snapshots, self._plan.completed} - {None}
        self._hard: Any = frozenset(lanes | words)
        self.machine = Machine(choose)
        self.result = Result()
        self._stages: list[Stage] = []
        """Of all generations."""
        self._installed = installed(self.machine)
        self._installed.__enter__()
        self._fabric = Fabric(self._plan, config)
        self._feed: ShmSender | None = None
        self._exchange: _Exchange | None = None
        self.seats: list[Seat] = []
        self.coordinator = Process(self.machine, "coordinator", self._coordinate)
        self._until_asleep(self.coordinator)
        for index in range(len(graph.nodes)):
            self.seats.append(Seat(index, self._spawn(index)))
        for seat in self.seats:  # all are ready before the first frame
            self._until_asleep(seat.process)
        self.machine.rung.add(self._fabric.bell.fd)

    @staticmethod
    def _until_asleep(process: Process) -> None:
        while process.can_run:
            process.advance(1000)

    def close(self) -> None:
        """End all processes."""
        for process in (self.coordinator, *(seat.process for seat in self.seats)):
            process.kill()
        for stage in self._stages:
            self._let_go(stage)
        if self._exchange is not None:
            self._exchange.kept.clear()
        self._exchange = None
        self._installed.__exit__(None, None, None)
        self._fabric.close()

    @staticmethod
    def _let_go(stage: Stage) -> None:
        """Arrays that nodes hold lead back to their stage, and no collector sees through them."""
        if vars(stage):
            stage.sender.close()
            stage.node.__dict__.pop("held", None)
            vars(stage).clear()

    # -- the coordinator -----------------------------------------------------------------------------------------------

    def _script(self) -> Iterator[tuple[Any, int]]:
        value = 0
        for count in self.setup.streams:
            if self._fabric.own_sources:
                yield MARK, LAST | START
                continue
            for _ in range(count):
                value += 1
                yield _array(value), LAST
            yield MARK, LAST | END

    def _coordinate(self, process: Process) -> None:
        view = self._view(process)
        bell = OwnDoorbell(self._fabric.bell.fd, view.region(self._plan.coordinator_bell, 1))
        participant: Any = Participant(process)
        for route in self._plan.routes.values():
            assert route.shared is not None
            route.shared.open(participant, create=True)
        route = self._plan.routes[FEED]
        assert route.shared is not None

        def bell_of(stage: int) -> Doorbell:
            spec = self._fabric.bell_of(stage)
            return Doorbell(spec.fd, view.region(spec.word, 1))

        references = self._references_of_the_coordinator(view, bell_of)
        feed = self._feed = ShmSender(
            participant,
            route.shared,
            view,
            [bell_of(consumer) for consumer in route.shared_consumers],
            borrowers=[None if consumer == FEED else bell_of(consumer) for consumer in route.borrowers],
            lender=Lender(references, ()),
        )
        receivers = []
        for producer in self._plan.producers_of(self._plan.collect):
            channel = self._plan.routes[producer].shared
            assert channel is not None
            lane = self._plan.routes[producer].shared_consumers.index(self._plan.collect)
            receivers.append(
                ShmReceiver(participant, channel, lane, view, bell_of(producer), references=references)
            )
        process.sleep(bell.fd)  # until all are ready
        bell.clear()
        completion = None
        if self._plan.completed is not None:
            bells = [bell_of(stage) for stage in range(len(self.setup.nodes))]
            completion = Completion(view.region(self._plan.completed, 1), bells)
        self._exchange = _Exchange(self._script(), feed, Inbox(receivers, completion=completion), self)
        self._exchange.run(process, bell)

    def _references_of_the_coordinator(self, view: Any, bell_of: Callable[[int], Doorbell]) -> References:
        origins = {}
        for route in self._plan.routes.values():
            if FEED in route.borrowers:
                assert route.shared is not None
                lane = route.borrowers.index(FEED)
                origins[route.shared.key] = Origin(route.shared, lane, view, bell_of(route.producer))
        return References(origins, [bell_of(route.producer) for route in self._plan.routes.values()])

    # -- workers -------------------------------------------------------------------------------------------------------

    def _view(self, process: Process) -> Any:
        return LedgerView(process, self._fabric.ledger._words, self._plain, self._hard)

    def _spawn(self, index: int) -> Process:
        return Process(self.machine, f"stage {index}", lambda process: self._work(self.seats[index], process))

    def _work(self, seat: Seat, process: Process) -> None:
        """As Worker.live, from loading the node to the last frame."""
        fabric, index = self._fabric, seat.index
        node = self.setup.nodes[index]()
        worker = Worker.__new__(Worker)
        worker._ledger = self._view(process)
        worker._board = Board(worker._ledger, fabric.board_offset(index))
        spec = fabric.bell_of(index)
        worker._bell = OwnDoorbell(spec.fd, worker._ledger.region(spec.word, 1))
        worker._bell.waiter = Waiter(process, worker._bell)
        worker._client = _Client(seat)  # type: ignore[assignment]
        worker._failed = False
        worker._failpoints = failpoints_of(str(index), index, seat.generation)
        worker._spec = BootSpec(
            node=str(index),
            worker_id=index,
            generation=seat.generation,
            payload_fd=-1,
            socket_path="",
            token=b"",
            parent_fd=-1,
            shm_prefix="",
            iox_root="",
            ledger_fd=-1,
            board=fabric.board_offset(index),
            bell=spec,
            inputs=fabric.inputs_of(index),
            output=fabric.output_of(index),
            origins=fabric.origins_of(index),
            log_level=0,
            own_sources=fabric.own_sources,
            replaceable=fabric.is_replaceable(index),
            given_up=() if self.setup.given_up is None or not seat.generation else (self.setup.given_up,),
            snapshots=fabric.snapshots_of(index, self._config),
        )
        connect = worker._connect

        def connect_and_show(node: Node) -> Any:
            stage, snapshot = connect(node)
            seat.stage = stage
            self._stages.append(stage)
            return stage, snapshot

        worker._connect = connect_and_show  # type: ignore[method-assign]
        _run_to_end(worker._work(node))

    # -- for schedules -------------------------------------------------------------------------------------------------

    @property
    def dead(self) -> list[Seat]:
        return [seat for seat in self.seats if seat.is_dead]

    @property
    def alive(self) -> list[Seat]:
        return [seat for seat in self.seats if not seat.is_dead]

    @property
    def is_done(self) -> bool:
        return self.coordinator.ended

    def can_run(self) -> list[Process]:
        processes = [self.coordinator, *(seat.process for seat in self.seats if not seat.is_dead)]
        return [process for process in processes if process.can_run]

    def advance(self, process: Process, steps: int) -> None:
        """Let one process do some steps. Raises Violation."""
        process.advance(steps)
        for seat in self.seats:
            if not seat.is_dead and (seat.failure is not None or seat.process.ended):
                raise Violation(f"stage {seat.index} ended: {seat.failure}")
        if self.machine.steps > _MOST_STEPS:
            raise Violation(f"no end after {_MOST_STEPS} steps")

    def kill(self, seats: Sequence[Seat]) -> None:
        """Kill these at once. What they were writing and did not make valid is garbage."""
        for seat in seats:
            seat.process.kill()
            if seat.stage is not None:
                self._let_go(seat.stage)
            seat.is_dead, seat.failure, seat.stage = True, None, None
        for seat in seats:
            lose_unreceived(seat.process)
            self._spoil(seat.index)

    def _spoil(self, index: int) -> None:
        for spec in self._fabric.inputs_of(index):
            lane = spec.channel.lane(spec.lane, self._fabric.ledger)
            for which, words in enumerate(lane._positions, 1):
                if lane.words[WHICH] != which:
                    for word in range(_POSITION_WORDS):
                        words[word] = 0xDEAD

    def restart(self, seat: Seat) -> None:
        """The next generation, from its first step on."""
        reap(seat.process)
        seat.generation += 1
        seat.is_dead = False
        seat.process = self._spawn(seat.index)

    def check(self) -> None:
        """At the end: everything is delivered and acknowledged, nothing is kept. Raises Violation."""
        for seat in self.seats:
            assert seat.stage is not None
            if hasattr(seat.stage.node, "held"):
                seat.stage.node.held = None
        assert self._feed is not None
        assert self._exchange is not None
        check_held(self._exchange.kept)
        self._exchange.kept.clear()
        for seat in self.seats:
            assert seat.stage is not None
            seat.stage.sender.demand()  # who joins branches drops what was remade when its room is wanted
        while True:
            self._feed.attend()  # for a receiver that was replaced after the coordinator had ended
            if self._exchange.take():  # what was remade in the end is dropped when the next frame is wanted
                raise Violation("a frame after the end")
            able = self.can_run()
            if not able:
                break
            for process in able:
                self.advance(process, 1000)
        senders = [self._feed, *(seat.stage.sender for seat in self.seats if seat.stage)]
        for _ in senders:
            for sender in senders:
                sender.recall()  # whoever has passed a frame on lets it go when he has time
        for sender in senders:
            assert isinstance(sender, ShmSender)
            credit = sender._credit
            if sender.unreleased() or len(credit.free) != self.setup.tickets or credit.bytes:
                raise Violation(f"{sender.name}: {len(credit.free)} tickets free, in flight {credit.in_flight}")

    def story(self) -> str:
        """Who is where, for error messages."""
        lines = [f"steps {self.machine.steps}; out so far {self.result.frames}"]
        for process in (self.coordinator, *(seat.process for seat in self.seats)):
            state = "dead" if process.dying else "ended" if process.ended else "asleep" if process.asleep else "runs"
            lines.append(f"{process.name}: {state}")
        for seat in self.seats:
            word = self._fabric.ledger.region(self._plan.bell_words[seat.index], 1)[0]
            lines.append(f"stage {seat.index} generation {seat.generation} asks for {word}")
        word = self._fabric.ledger.region(self._plan.coordinator_bell, 1)[0]
        lines.append(f"the coordinator asks for {word}")
        return "\n".join(lines)


class _Exchange:
    """Feeds and collects, within a window, until everything is out and has been acknowledged."""

    def __init__(self, script: Iterator[tuple[Any, int]], feed: ShmSender, collect: Inbox, pool: Pool) -> None:
        self._script, self._feed, self._collect, self._pool = script, feed, collect, pool
        self._window = Window(most_frames=pool.setup.window, most_bytes=1 << 30, always=1)
        self._own_sources = pool._fabric.own_sources
        self._next: tuple[Any, int] | None = next(script)
        self._number = 0
        self._ends = len(pool.setup.streams)
        self._runs = False
        self.kept: list[tuple[Any, list[int]]] = []
        """Outputs that the user holds, and what they were."""

    def run(self, process: Process, bell: OwnDoorbell) -> None:
        while self._ends:
            if self._put() or self.take():
                continue
            bell.park(DATA | CREDIT)
            if self._put() or self.take():
                continue
            if self._next is not None:
                self._feed.demand()
            self._feed.attend()
            self._sleep(process, bell)
        while self._feed.acknowledged() < self._feed.sequence:
            bell.park(ACKNOWLEDGEMENT | CREDIT | DATA)
            self._feed.attend()
            self._feed.demand()
            if self.take():  # what is remade must be received to be acknowledged, though it is dropped
                raise Violation("a frame after the end")
            if self._feed.acknowledged() < self._feed.sequence:
                self._sleep(process, bell)

    def _sleep(self, process: Process, bell: OwnDoorbell) -> None:
        process.sleep(bell.fd)
        bell.clear()

    def _put(self) -> bool:
        if self._next is None or self._runs:
            return False
        value, flags = self._next
        parcel = self._feed.pack(value)
        if not (self._window.has_room() and self._feed.has_credit(parcel.nbytes)):
            return False
        self._runs = self._own_sources
        if not self._own_sources:
            self._window.enter(0)
        self._feed.send(parcel, Stamp(self._number, flags=flags))
        self._number += 1
        self._next = next(self._script, None)
        return True

    def take(self) -> bool:
        """Take an output if there is one."""
        frame = self._collect.take()
        if frame is None:
            return False
        data = None if frame.value is MARK or isinstance(frame.value, bytes) else frame.value.tolist()
        check_held(self.kept)
        if data is not None:
            self.kept = [(frame.value, data), *self.kept[:: -1 if frame.number % 2 else 1][:2]]
        self._pool.result.frames.append((frame.number, frame.index, frame.flags, data))
        if frame.flags & LAST and not self._own_sources:
            self._window.leave(0)
        if frame.flags & END:
            self._ends -= 1
            self._runs = False
            if self._own_sources:
                self._number = frame.number + 1
        return True


# -- schedules ---------------------------------------------------------------------------------------------------------


def undisturbed(setup: Setup) -> Result:
    """What comes out when nobody dies."""
    pool = Pool(setup, lambda _n: 0)
    try:
        finish(pool)
        pool.check()
    finally:
        pool.close()
    return pool.result


def finish(pool: Pool, steps: int = 1000) -> None:
    """Let everybody run, one after the other, until all is done. Raises Violation if nobody can run before that."""
    while True:
        for seat in pool.dead:
            pool.restart(seat)
        able = pool.can_run()
        if not able:
            if not pool.is_done:
                raise Violation("nobody can go on")
            return
        for process in able:
            if process.can_run:
                pool.advance(process, steps)


@contextlib.contextmanager
def judged(setup: Setup, expected: Result | None, choose: Callable[[int], int], name: str) -> Iterator[Pool]:
    """A pool for one schedule; at its end everything is checked. Raises Violation with the name of the schedule."""
    pool = Pool(setup, choose)
    text = None
    try:
        yield pool
        finish(pool)
        if expected is not None and pool.result != expected:
            raise Violation(f"came out: {pool.result.frames}, expected: {expected.frames}")
        pool.check()
    except Exception as error:
        text = f"{name}: {error!r}\n{pool.story()}\n{traceback.format_exc(limit=-5)}"
    finally:
        pool.close()
    if text is not None:
        raise Violation(text)


def random_schedule(setup: Setup, expected: Result, seed: int, most_kills: int = 4) -> int:
    """One schedule out of `seed`; the number of its steps. Raises Violation."""
    rng = random.Random(seed)
    burst = rng.choice((1, 2, 5, 20, 100, 1000))
    kills = rng.randint(most_kills // 2, most_kills)
    kill_chance = rng.choice((0.005, 0.02, 0.1)) * min(burst, 20)
    restart_chance = rng.choice((0.02, 0.2, 1.0))
    favourite = rng.choice((None, *range(len(setup.nodes) + 1)))
    with judged(setup, expected, rng.randrange, f"seed {seed}") as pool:
        while not pool.is_done:
            able, dead = pool.can_run(), pool.dead
            if dead and (not able or rng.random() < restart_chance):
                pool.restart(rng.choice(dead))
            elif kills and pool.alive and rng.random() < kill_chance:
                kills -= 1
                pool.kill(rng.sample(pool.alive, min(len(pool.alive), rng.choice((1, 1, 1, 2, 3)))))
            elif not able:
                raise Violation("nobody can go on")
            else:
                process = rng.choice(able)
                if favourite is not None and able[0] is process and rng.random() < 0.7:
                    process = able[favourite % len(able)]  # speeds differ
                pool.advance(process, 1 + int(rng.expovariate(1 / burst)))
        return pool.machine.steps


def killed_at(
    setup: Setup, expected: Result, kills: Sequence[tuple[int, int]], *, order: int = 0, burst: int = 1000, late: bool
) -> int:
    """Kill stage `b` at step `a` for each (a, b), the others running one after the other in bursts; the steps in all.

    `order`: who comes first. `late`: the next generation starts only when nobody else can go on.
    """
    waiting = deque(kills)
    with judged(setup, expected, lambda n: n - 1, f"{kills=} {order=} {burst=} {late=}") as pool:
        turn = order
        while not pool.is_done:
            able = pool.can_run()
            if pool.dead and (not late or not able):
                pool.restart(pool.dead[0])
                continue
            if not able:
                raise Violation("nobody can go on")
            until = waiting[0][0] - pool.machine.steps if waiting else burst
            if until <= 0:
                _, victim = waiting.popleft()
                if not pool.seats[victim].is_dead:
                    pool.kill([pool.seats[victim]])
                continue
            turn += 1
            pool.advance(able[turn % len(able)], min(burst, until))
        return pool.machine.steps
