"""What the processes of one pool share, made from a plan: ledger, doorbells, channels, and the coordinator's ends of
them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remotemedia.config import ChannelConfig, PoolConfig
from remotemedia.core.exceptions import SharedMemoryExhausted
from remotemedia.ipc.budget import least_bytes
from remotemedia.ipc.channel import Receiver, Sender
from remotemedia.ipc.doorbell import Doorbell, OwnDoorbell, new_doorbell_fd
from remotemedia.ipc.ledger import Ledger
from remotemedia.ipc.local_channel import LocalSender
from remotemedia.workers.board import Board
from remotemedia.workers.boot import BellSpec, InputSpec, OutputSpec
from remotemedia.workers.completion import Completion
from remotemedia.workers.inbox import Inbox
from remotemedia.workers.plan import FEED, Plan
from remotemedia.workers.snapshots import SnapshotSpec
from remotemedia.workers.tee import Tee
from remotemedia.workers.traces import TraceSpec, TraceTable

if TYPE_CHECKING:
    from remotemedia.ipc.participant import Participant
    from remotemedia.ipc.references import References


_FEED_RUNG = -2
"""Among the doorbells: the coordinator's, as those see it who ring it."""


class Fabric:
    """The shared parts of one pool. Workers are told of theirs by `inputs_of` and `output_of`."""

    def __init__(self, plan: Plan, config: ChannelConfig) -> None:
        self._plan, self._config = plan, config
        self.ledger = Ledger.create(plan.layout)
        self.boards = [Board(self.ledger, offset) for offset in plan.boards]
        self._fds: dict[int, int] = {}
        self._bells: dict[int, Doorbell] = {}
        self._senders: dict[int, Sender] = {}
        self._local: dict[int, LocalSender] = {}
        self._participant: Participant | None = None
        self._references: References | None = None
        self._snapshot_fds: dict[int, tuple[int, int]] = {}
        try:
            for stage in (FEED, *(i for i, remote in enumerate(plan.remote) if remote)):
                self._fds[stage] = new_doorbell_fd()
            for stage, words in enumerate(plan.snapshots):
                if words is not None:
                    self._snapshot_fds[stage] = _new_memfd(), _new_memfd()
        except OSError:
            self.close()
            raise
        self.bell = self._bells[FEED] = OwnDoorbell(self._fds[FEED], self.ledger.region(plan.coordinator_bell, 1))

    # -- for the workers -----------------------------------------------------------------------------------------------

    def bell_of(self, stage: int) -> BellSpec:
        """The doorbell that reaches a stage (or FEED, or COLLECT: the coordinator's)."""
        if self._plan.is_remote(stage):
            return BellSpec(fd=self._fds[stage], word=self._plan.bell_words[stage])
        return BellSpec(fd=self._fds[FEED], word=self._plan.coordinator_bell)

    def board_offset(self, stage: int) -> int:
        """Where a stage's board lies in the ledger."""
        return self._plan.boards[stage]

    def inputs_of(self, stage: int) -> tuple[InputSpec, ...]:
        """The inputs of a worker's stage, in order."""
        inputs = []
        for producer in self._plan.producers_of(stage):
            route = self._plan.routes[producer]
            assert route.shared is not None
            lane = route.shared_consumers.index(stage)
            inputs.append(InputSpec(channel=route.shared, lane=lane, sender=self.bell_of(producer)))
        return tuple(inputs)

    def output_of(self, stage: int) -> OutputSpec:
        """The output of a worker's stage."""
        route = self._plan.routes[stage]
        assert route.shared is not None
        return OutputSpec(
            channel=route.shared,
            receivers=tuple(self.bell_of(c) for c in route.shared_consumers),
            borrowers=tuple(self.bell_of(c) for c in route.borrowers),
        )

    def origins_of(self, stage: int) -> tuple[InputSpec, ...]:
        """The channels whose frames a worker's stage may get by reference."""
        return tuple(
            InputSpec(channel=route.shared, lane=route.borrowers.index(stage), sender=self.bell_of(route.producer))
            for route in self._plan.origins_of(stage)
            if route.shared is not None and stage in route.borrowers
        )

    def snapshots_of(self, stage: int, config: PoolConfig) -> SnapshotSpec | None:
        """Where a worker keeps the state of its node."""
        words = self._plan.snapshots[stage]
        if words is None:
            return None
        return SnapshotSpec(
            fds=self._snapshot_fds[stage],
            words=words,
            every_frames=config.snapshot_frames,
            every_s=config.snapshot_s,
        )

    @property
    def traces(self) -> TraceSpec | None:
        """Where the trace contexts of frames lie."""
        return self._plan.traces

    def trace_table(self) -> TraceTable | None:
        """The coordinator's view of them."""
        return None if self.traces is None else TraceTable.at(self.traces, self.ledger)

    def fds(self) -> list[int]:
        """What any worker may need."""
        return [self.ledger.fd, *self._fds.values(), *(fd for pair in self._snapshot_fds.values() for fd in pair)]

    def is_replaceable(self, stage: int) -> bool:
        return self._plan.is_replaceable(stage)

    @property
    def own_sources(self) -> bool:
        return self._plan.has_own_sources

    def reap(self) -> None:
        """Remove what workers that have ended left in iceoryx2. Blocks for some milliseconds: not for the loop."""
        from remotemedia.ipc.reaping import reap

        if self._participant is not None:
            reap(self._participant)

    # -- the coordinator's ends ----------------------------------------------------------------------------------------

    def open_channels(self, shm_prefix: str, iox_root: str) -> None:
        """Create every shared channel, and the local ones. Workers may open theirs only after this."""
        from remotemedia.ipc.participant import Participant
        from remotemedia.ipc.shm_memory import free_shared_memory

        receivers = [route.shared.receivers for route in self._plan.routes.values() if route.shared is not None]
        need, free = least_bytes(self._config, receivers, retain=self._plan.retain), free_shared_memory()
        if need > free:
            raise SharedMemoryExhausted(f"{len(receivers)} channels of the pool", need, free)
        self._participant = Participant(shm_prefix, iox_root)
        self._participant.keep_private()
        for route in self._plan.routes.values():
            if route.shared is not None:
                route.shared.open(self._participant, create=True)
        self._references = self._make_references()
        for producer in (FEED, *(i for i, remote in enumerate(self._plan.remote) if not remote)):
            self._senders[producer] = self._make_sender(producer)

    def _make_references(self) -> References:
        from remotemedia.ipc.references import Origin, References

        # Views that somebody keeps lead to these bells: the coordinator's own one would lead on to its loop.
        self._bells[_FEED_RUNG] = Doorbell(self.bell.fd, self.bell.word)
        origins: dict[int, Origin] = {}
        upstream = []
        for route in self._plan.routes.values():
            if route.shared is not None:
                is_remote = self._plan.is_remote(route.producer)
                upstream.append(self._bell(route.producer) if is_remote else self._bells[_FEED_RUNG])
                if FEED in route.borrowers:
                    lane = route.borrowers.index(FEED)
                    origins[route.shared.key] = Origin(route.shared, lane, self.ledger, upstream[-1])
        return References(origins, upstream)

    def _make_sender(self, producer: int) -> Sender:
        from remotemedia.ipc.references import Lender
        from remotemedia.ipc.shm_sender import ShmSender

        route = self._plan.routes[producer]
        assert self._participant is not None
        assert self._references is not None
        local = shared = None
        if route.local_consumers:
            name = f"{producer}:local"
            local = self._local[producer] = LocalSender(name, len(route.local_consumers), self._config, self.bell)
        if route.shared is not None:
            bells = [self._bell(consumer) for consumer in route.shared_consumers]
            borrowers = [None if consumer == FEED else self._bell(consumer) for consumer in route.borrowers]
            origins = {r.shared.key for r in self._plan.origins_of(producer) if r.shared} if producer != FEED else set()
            lender = Lender(self._references, origins)
            shared = ShmSender(
                self._participant, route.shared, self.ledger, bells, borrowers=borrowers, lender=lender
            )
        if local is not None and shared is not None:
            return Tee(shared, local)
        sender = shared or local
        assert sender is not None
        return sender

    def _bell(self, stage: int) -> Doorbell:
        stage = stage if self._plan.is_remote(stage) else FEED
        if stage not in self._bells:
            spec = self.bell_of(stage)
            self._bells[stage] = Doorbell(spec.fd, self.ledger.region(spec.word, 1))
        return self._bells[stage]

    def sender(self, producer: int) -> Sender:
        """The sending end of an inline stage, or of FEED."""
        return self._senders[producer]

    def inbox(self, stage: int) -> Inbox:
        """The receiving ends of an inline stage, or of COLLECT."""
        receivers = [self._receiver(producer, stage) for producer in self._plan.producers_of(stage)]
        completion = self._completion() if stage == self._plan.collect else None
        return Inbox(receivers, safe=self._plan.retain, completion=completion)

    def _completion(self) -> Completion | None:
        word = self._plan.completed
        if word is None:
            return None
        remote = [stage for stage, is_remote in enumerate(self._plan.remote) if is_remote]
        return Completion(self.ledger.region(word, 1), [self._bell(stage) for stage in remote])

    def _receiver(self, producer: int, consumer: int) -> Receiver:
        from remotemedia.ipc.shm_receiver import ShmReceiver

        route = self._plan.routes[producer]
        if consumer in route.local_consumers:
            return self._local[producer].receivers[route.local_consumers.index(consumer)]
        assert route.shared is not None
        assert self._participant is not None
        lane = route.shared_consumers.index(consumer)
        return ShmReceiver(
            self._participant, route.shared, lane, self.ledger, self._bell(producer), references=self._references
        )

    # -- stopping ------------------------------------------------------------------------------------------------------

    def request_stop(self, stage: int) -> None:
        """Tell a worker, through shared memory alone, to stop after the frame it is working on."""
        self.boards[stage].request_stop()
        self._bell(stage).ring()

    def close(self) -> None:
        """Close the descriptors and leave iceoryx2. Views that somebody still holds stay valid."""
        for sender in self._senders.values():
            sender.close()
        self._senders.clear()
        self._local.clear()
        if self._references is not None:
            self._references.close()
            self._references = None
        if self._participant is not None:
            self._participant.close()
            self._participant = None
        self.ledger.close()
        for bell in self._bells.values():
            bell.mute()
        self._bells.clear()
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        for pair in self._snapshot_fds.values():
            for fd in pair:
                os.close(fd)
        self._snapshot_fds.clear()


def _new_memfd() -> int:
    return os.memfd_create("remotemedia-snapshot", os.MFD_CLOEXEC)
