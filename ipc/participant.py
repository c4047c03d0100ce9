"""Our membership in iceoryx2: configuration, services, ports, and what a fork must not touch.

What iceoryx2 calls a node is a participant here. One participant per process and pool, with a prefix and a root
directory of the pool's own. Only the coordinator creates services; workers open them. Implicit clean-up of dead
participants is off everywhere: it can loop for ever on a segment whose creator was killed at the wrong instant, so only
the coordinator cleans, after unlinking such segments.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import iceoryx2 as iox

from remotemedia.core.exceptions import ChannelError
from remotemedia.ipc.budget import MAX_LOANS, SPARE_SLOTS
from remotemedia.ipc.wire import Block, UserHeader

iox.set_log_level(iox.LogLevel.Fatal)  # what goes wrong here is reported by our errors, once

_FDS_OF_A_PORT = 8
_FAILURES = (
    iox.NodeCreationFailure,
    iox.PublishSubscribeOpenError,
    iox.PublishSubscribeCreateError,
    iox.PublisherCreateError,
    iox.SubscriberCreateError,
)
_LONGEST_NAME = 200
"""iceoryx2 takes names of 255 bytes, without control characters. What tells channels apart stands in front."""


@contextmanager
def _translated(channel: str, what: str) -> Iterator[None]:
    """What iceoryx2 raises as a ChannelError. It does not say so, but want of descriptors is the usual cause."""
    try:
        yield
    except _FAILURES as error:
        hint = "" if _has_free_fds(_FDS_OF_A_PORT) else "; too few file descriptors are free: raise `ulimit -n`"
        raise ChannelError(channel, f"{what}: {error}{hint}") from error


def _has_free_fds(count: int) -> bool:
    probes: list[int] = []
    try:
        for _ in range(count):
            probes.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 - closed even half-way
    except OSError:
        return False
    finally:
        for fd in probes:
            os.close(fd)
    return True


class Participant:
    """One process's membership. Holds every port, so that they outlive no `close` and leave together."""

    def __init__(self, prefix: str, root: str) -> None:
        self.prefix = prefix
        config = self.config = iox.config.default()
        config.global_cfg.prefix = iox.FileName.new(prefix)
        config.global_cfg.root_path = iox.Path.new(root)
        config.global_cfg.node.cleanup_dead_nodes_on_creation = False
        config.global_cfg.node.cleanup_dead_nodes_on_destruction = False
        config.global_cfg.service.cleanup_dead_nodes_on_open = False
        with _translated("(all)", "cannot join iceoryx2"):
            self._node: Any = (
                iox.NodeBuilder.new()
                .config(config)
                .signal_handling_mode(iox.SignalHandlingMode.Disabled)
                .create(iox.ServiceType.Ipc)
            )
        self._ports: list[Any] = [self._node]
        _participants.add(self)

    def keep_private(self) -> None:
        """Take other users' rights from the one segment that iceoryx2 gives them; for the process that joined first."""
        from pathlib import Path  # not every worker needs it

        for path in Path("/dev/shm").glob(f"{self.prefix}*.global_mgmt"):  # noqa: S108 - POSIX shared memory on Linux
            path.chmod(0o600)

    def open_channel(
        self, name: str, *, subscribers: int, queue_room: int, queue_frames: int, create: bool
    ) -> Any:
        """The publish-subscribe service of one channel. The queue of each receiver has room for every frame in flight.
        """
        builder = (
            self._node.service_builder(iox.ServiceName.new(ascii(name)[:_LONGEST_NAME]))
            .publish_subscribe(iox.Slice[Block])
            .user_header(UserHeader)
            .payload_alignment(iox.Alignment.new(64))
        )
        with _translated(name, "cannot be created" if create else "cannot be opened"):
            if not create:
                service = builder.open()
            else:
                service = (
                    builder.enable_safe_overflow(False)
                    .subscriber_max_buffer_size(queue_room)
                    .subscriber_max_borrowed_samples(queue_frames + SPARE_SLOTS)
                    .history_size(0)
                    .max_publishers(1)
                    .max_subscribers(subscribers)
                    .max_nodes(subscribers + 3)  # the sender's, the coordinator's, and one that is being replaced
                    .create()
                )
        self._ports.append(service)
        return service

    def publisher(self, service: Any, *, slot_blocks: int, slots: int) -> Any:
        """The sender's port: slots are sparse (memory is committed when first used) and reused last-in-first-out."""
        with _translated(str(service.name), "the sender's port cannot be created"):
            port = (
                service.publisher_builder()
                .initial_max_slice_len(slot_blocks)
                .max_loaned_samples(MAX_LOANS)
                .override_sample_preallocation(slots)
                .allocation_strategy(iox.AllocationStrategy.PowerOfTwo)
                .backpressure_strategy(iox.BackpressureStrategy.DiscardData)
                .create()
            )
        self._ports.append(port)
        return port

    def subscriber(self, service: Any, *, queue_room: int) -> Any:
        """A receiver's port."""
        with _translated(str(service.name), "a receiver's port cannot be created"):
            port = service.subscriber_builder().buffer_size(queue_room).create()
        self._ports.append(port)
        return port

    def close(self) -> None:
        """Leave. Ports that views still lean on stay until the last of these views dies."""
        self._ports.clear()
        self._node = None


max_open_slots = MAX_LOANS - 1
"""Arrays from `empty()` that may be in a node's hands at once; one loan is kept for packing."""

LoanError = iox.LoanError

_participants: weakref.WeakSet[Participant] = weakref.WeakSet()


def _forget_in_forked_child() -> None:
    """A forked copy of a participant would delete the original's files when it is dropped: never drop it."""
    for participant in list(_participants):
        for port in participant._ports:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(port))


os.register_at_fork(after_in_child=_forget_in_forked_child)
