"""What a coordinator and its fork server say to each other.

One socket leads to the server. A request is one byte, the number of descriptors that come with it (SCM_RIGHTS):

    [line]                                               are you there?
    [line, order, working directory, descriptors...]     fork

`line` is the server's end of a socket pair that is made for this request; everything about the new process is said over
it: that it is there, that it has ended (the coordinator sees that first, by its pidfd) and may be reaped, how it ended.
So many threads can use one server without a lock, and the end of the server is seen on every line. `order`, a sealed
memfd, holds an Order, as marshal writes it.
"""

from __future__ import annotations

import array
import marshal
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

MOST_FDS = 250
"""With a request; the kernel takes three more."""

STDOUT, STDERR = 1, 2

REAP = b"r"
"""The process has ended, and nothing of it is signalled any more: reap it, and say how it ended."""
KILL = b"k"
"""Nobody can look after it: kill it, with its process group, and reap it."""

_MARSHAL_VERSION = 4
_ANSWER_BYTES = 4096


class Order(NamedTuple):
    """What a new process is to be: as what it goes on (see workers/child/__main__.py), its environment, and the numbers
    under which it has the descriptors that come with the order.
    """

    boot: dict[str, Any]
    environment: Mapping[str, str]
    numbers: Sequence[int]

    def to_bytes(self) -> bytes:
        return marshal.dumps((self.boot, dict(self.environment), tuple(self.numbers)), _MARSHAL_VERSION)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Order:
        return cls(*marshal.loads(data))  # noqa: S302 - from the coordinator, sealed


class Here(NamedTuple):
    """The server is there, and can fork."""


class Started(NamedTuple):
    """The new process. Its number is nobody else's until it is reaped."""

    pid: int


class Refused(NamedTuple):
    """There is no new process. `number`: the errno."""

    number: int
    text: str


class Ended(NamedTuple):
    """How a process ended, as waitid(2) says it."""

    si_code: int
    si_status: int


Answer = Here | Started | Refused | Ended
_ANSWERS: tuple[type[Answer], ...] = (Here, Started, Refused, Ended)


def encode(answer: Answer) -> bytes:
    """One message on a line."""
    return marshal.dumps((_ANSWERS.index(type(answer)), *answer), _MARSHAL_VERSION)


def decode(data: bytes) -> Answer:
    """The answer in a message."""
    kind, *fields = marshal.loads(data)  # noqa: S302 - from our own server
    answer: Answer = _ANSWERS[kind](*fields)
    return answer


def receive_answer(line: socket.socket) -> Answer | None:
    """The next answer; None: the server has ended. Raises OSError (TimeoutError, BlockingIOError) if there is none."""
    try:
        data = line.recv(_ANSWER_BYTES)
    except ConnectionResetError:  # it had not even read what we said
        data = b""
    return decode(data) if data else None


def receive_request(control: socket.socket) -> tuple[int, list[int]] | None:
    """How many descriptors came, and those for which there was room in this process; None: there is nobody any more.

    They are not inherited by processes that this one executes.
    """
    fds = array.array("i")
    room = socket.CMSG_LEN((MOST_FDS + 3) * fds.itemsize)
    try:
        data, ancillary, _, _ = control.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return (data[0], list(fds)) if data else None


def _dup2(descriptor: int, number: int) -> None:
    os.dup2(descriptor, number, inheritable=number <= STDERR)  # helpers of nodes get standard streams, nothing else


def renumber(
    descriptors: Sequence[int],
    numbers: Sequence[int],
    dup: Callable[[int], int] = os.dup,
    dup2: Callable[[int, int], object] = _dup2,
    close: Callable[[int], object] = os.close,
) -> None:
    """Give each descriptor the number at its place. What else is open under one of these numbers is closed.

    It takes the lowest numbers that are free, and few, so that it works under any limit.
    """
    now = dict(zip(numbers, descriptors, strict=True))
    for number in numbers:
        if now[number] == number:
            continue
        for other, descriptor in now.items():
            if descriptor == number:
                now[other] = dup(number)  # out of the way; its turn comes later
        dup2(now[number], number)
        close(now[number])
        now[number] = number
