"""What a worker is told before its first message."""

from __future__ import annotations

import marshal
import mmap
import os
from collections.abc import Callable

import pytest

from remotemedia.config import ChannelConfig
from remotemedia.ipc.ledger import LedgerLayout
from remotemedia.ipc.shm_channel import ChannelSpec
from remotemedia.workers.boot import BellSpec, BootSpec, InputSpec, OutputSpec, parse_boot, sealed_fd, write_boot_fd
from remotemedia.workers.snapshots import SnapshotSpec


def spec(**changes: object) -> BootSpec:
    facts: dict[str, object] = {
        "node": "détecteur",
        "worker_id": 3,
        "generation": 2,
        "payload_fd": 9,
        "socket_path": "/run/x",
        "token": bytes(range(32)),
        "parent_fd": 10,
        "shm_prefix": "p_",
        "iox_root": "/r",
        "ledger_fd": 11,
        "board": 64,
        "bell": BellSpec(fd=12, word=0),
        "inputs": (
            InputSpec(channel=channel("in"), lane=0, sender=BellSpec(fd=13, word=8)),
            InputSpec(channel=channel("too"), lane=1, sender=BellSpec(fd=12, word=0)),
        ),
        "output": OutputSpec(channel=channel("out"), receivers=(BellSpec(fd=13, word=8), BellSpec(fd=14, word=16))),
        "log_level": 20,
        "own_sources": False,
        "replaceable": True,
        "heartbeat_s": 0.25,
        "nice": 3,
        "cpu_affinity": (0, 2),
        "spin_us": 70,
    }
    return BootSpec(**{**facts, **changes})  # type: ignore[arg-type]


def channel(name: str) -> ChannelSpec:
    return ChannelSpec.plan(name, 2, ChannelConfig(queue_frames=5, slot_bytes=100), LedgerLayout())


def content(fd: int) -> memoryview:
    return memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))


@pytest.mark.parametrize("snapshots", [None, SnapshotSpec(fds=(15, 16), words=80, every_frames=3, every_s=0.5)])
def test_it_arrives_as_it_was_written(snapshots: SnapshotSpec | None) -> None:
    sent = spec(snapshots=snapshots, given_up=(5, 7))
    fd = write_boot_fd({"worker": sent.to_builtins()})
    assert parse_boot(marshal.loads(content(fd))["worker"]) == sent
    os.close(fd)


@pytest.mark.parametrize("payload", [b"node", bytes(1_000_000)])
def test_so_does_the_node(payload: bytes) -> None:
    fd = sealed_fd("node", payload)
    assert content(fd) == payload
    os.close(fd)


@pytest.mark.parametrize("make", [lambda: write_boot_fd(spec().to_builtins()), lambda: sealed_fd("node", b"node")])
def test_nobody_can_change_it(make: Callable[[], int]) -> None:
    fd = make()
    for attempt in (
        lambda: os.pwrite(fd, b"x", 0),
        lambda: os.truncate(fd, 1),
        lambda: os.truncate(fd, 1 << 20),
        lambda: mmap.mmap(fd, 0),
    ):
        with pytest.raises(PermissionError):
            attempt()
    os.close(fd)


def test_every_descriptor_is_inherited_once() -> None:
    assert sorted(spec().inherited_fds()) == [9, 10, 11, 12, 13, 14]
    snapshots = SnapshotSpec(fds=(15, 16), words=80, every_frames=1, every_s=1.0)
    assert sorted(spec(snapshots=snapshots).inherited_fds()) == [9, 10, 11, 12, 13, 14, 15, 16]
