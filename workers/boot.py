"""What a worker must know before its first message: handed over in a sealed memfd that the child inherits.

The data are plain builtins as marshal writes them, because the child has to read its sys.path before it can import
anything. The pickled node is in a memfd of its own, which all generations of its worker inherit. Nobody but the
coordinator can write either: memfds have no name, and the seals forbid changes even to the holder.
"""

from __future__ import annotations

import fcntl
import marshal
import os
from typing import Any

import msgspec

from remotemedia.config import OnError
from remotemedia.ipc.shm_channel import ChannelSpec
from remotemedia.workers.snapshots import SnapshotSpec
from remotemedia.workers.traces import TraceSpec

MARSHAL_VERSION = 4


class BellSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One process's doorbell: the inherited eventfd, and its word in the ledger."""

    fd: int
    word: int


class InputSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a stage: its lane of a channel, and the doorbell of who sends."""

    channel: ChannelSpec
    lane: int
    sender: BellSpec


class OutputSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The channel a stage sends into, and the doorbells of its receivers in the order of the lanes."""

    channel: ChannelSpec
    receivers: tuple[BellSpec, ...]
    borrowers: tuple[BellSpec, ...] = ()
    """The doorbells of those who may get the frames by reference from others."""


class BootSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one generation of one worker."""

    node: str
    worker_id: int
    generation: int
    payload_fd: int
    socket_path: str
    token: bytes
    parent_fd: int
    shm_prefix: str
    iox_root: str
    ledger_fd: int
    board: int
    bell: BellSpec
    inputs: tuple[InputSpec, ...]
    output: OutputSpec
    log_level: int
    own_sources: bool
    """Whether the pipeline's sources number their frames themselves."""
    replaceable: bool
    """Whether a next generation would go on where this one ends."""
    given_up: tuple[int, ...] = ()
    """Numbers of frames that are not to be tried again."""
    snapshots: SnapshotSpec | None = None
    origins: tuple[InputSpec, ...] = ()
    """Channels whose frames may come by reference; `lane`: which of their borrowers the worker is."""
    heartbeat_s: float = 1.0
    nice: int | None = None
    cpu_affinity: tuple[int, ...] | None = None
    on_error: OnError = "raise"
    spin_us: int = 0
    sessions: tuple[tuple[int, str], ...] = ()
    """Number and name of the sessions that are open already."""
    traces: TraceSpec | None = None

    def inherited_fds(self) -> tuple[int, ...]:
        """Every descriptor that the child must inherit, beside the one of the boot data."""
        inputs = [*self.inputs, *self.origins]
        bells = [self.bell, *(i.sender for i in inputs), *self.output.receivers, *self.output.borrowers]
        snapshots = self.snapshots.fds if self.snapshots is not None else ()
        own = [self.payload_fd, self.parent_fd, self.ledger_fd, *snapshots]
        return tuple(dict.fromkeys([*own, *(bell.fd for bell in bells)]))


    def to_builtins(self) -> dict[str, Any]:
        """All of it as what marshal can write; `parse_boot` reads it."""
        data: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(bytes,))
        return data


def write_boot_fd(boot: dict[str, Any]) -> int:
    """A sealed memfd with what a process is to be told first. The caller closes it."""
    return sealed_fd("boot", marshal.dumps(boot, MARSHAL_VERSION))


def sealed_fd(name: str, data: bytes) -> int:
    """A memfd with `data`, that nobody can change. The caller closes it."""
    fd = os.memfd_create(f"remotemedia-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(fd)
        raise
    return fd


def parse_boot(data: dict[str, Any]) -> BootSpec:
    """The worker, as the child has read it."""
    return msgspec.convert(data, BootSpec)
