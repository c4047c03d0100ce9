"""The channels of a stage in its worker's process, which the coordinator has created; and where the last generation of
this worker ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from remotemedia.core.node import Node
from remotemedia.ipc.channel import Stamp
from remotemedia.ipc.doorbell import Doorbell
from remotemedia.ipc.lane import Position
from remotemedia.ipc.ledger import Ledger
from remotemedia.ipc.participant import Participant
from remotemedia.ipc.references import Lender, Origin, References
from remotemedia.ipc.shm_receiver import ShmReceiver
from remotemedia.ipc.shm_sender import ShmSender
from remotemedia.workers.boot import BellSpec, BootSpec
from remotemedia.workers.delivery import Merge
from remotemedia.workers.inbox import Inbox
from remotemedia.workers.snapshots import STORE_WORDS, Snapshot, Snapshots, SnapshotStore
from remotemedia.workers.stage import Resumption


@dataclass(frozen=True)
class Wiring:
    """What a stage receives from and sends to. `positions`: for each input, where the last generation stood, as of the
    `snapshot` of its state if there is one; `store`: where such snapshots are kept.
    """

    inbox: Inbox
    sender: ShmSender
    positions: list[Position | None]
    store: SnapshotStore | None
    snapshot: Snapshot | None


def wire(spec: BootSpec, ledger: Ledger) -> Wiring:
    """Open the channels. Raises ChannelError."""
    participant = Participant(spec.shm_prefix, spec.iox_root)
    bells: dict[BellSpec, Doorbell] = {}

    def bell(of: BellSpec) -> Doorbell:
        return bells.setdefault(of, Doorbell(of.fd, ledger.region(of.word, 1)))

    store = None
    if spec.snapshots is not None:
        store = SnapshotStore(spec.snapshots.fds, ledger.region(spec.snapshots.words, STORE_WORDS))
    snapshot = store.load() if store is not None else None
    positions = [i.channel.lane(i.lane, ledger).position for i in spec.inputs]
    if snapshot is not None:
        positions = snapshot.positions
    references = References(
        {o.channel.key: Origin(o.channel, o.lane, ledger, bell(o.sender), spec.generation) for o in spec.origins},
        [bell(i.sender) for i in (*spec.inputs, *spec.origins)],
    )
    receivers = [
        ShmReceiver(participant, i.channel, i.lane, ledger, bell(i.sender), spec.generation, position, references)
        for i, position in zip(spec.inputs, positions, strict=True)
    ]
    merge = Merge.resumed(positions, own_sources=spec.own_sources)
    inbox = Inbox(receivers, safe=not spec.replaceable, merge=merge)
    lender = Lender(
        references,
        {i.channel.key for i in (*spec.inputs, *spec.origins) if i.channel.borrowers},
        inbox.is_current if spec.replaceable else None,
    )
    out = spec.output
    sender = ShmSender(
        participant,
        out.channel,
        ledger,
        [bell(b) for b in out.receivers],
        spec.generation,
        [bell(b) for b in out.borrowers],
        lender,
    )
    return Wiring(inbox, sender, positions, store, snapshot)


def resumption(node: Node, spec: BootSpec, wiring: Wiring) -> Resumption | None:
    """What the stage takes over from the last generation; None for one that has no other generations."""
    if not spec.replaceable:
        return None
    positions, snapshots = wiring.positions, None
    if wiring.store is not None and spec.snapshots is not None:
        rhythm = spec.snapshots
        # Inputs stay in their senders' hands until a snapshot has seen them: that must not be most of the room.
        room = min(i.channel.config.queue_frames for i in spec.inputs) // 4
        every = max(1, min(rhythm.every_frames, room))
        snapshots = Snapshots(node, wiring.store, every_frames=every, every_s=rhythm.every_s)
    last = max(((p.sent_number, p.sent_index) for p in positions if p), default=(-1, 0))
    return Resumption(Stamp(*last), frozenset(spec.given_up), snapshots, positions)
