"""What a coordinator and its fork server say to each other, and the numbers of descriptors."""

from __future__ import annotations

import errno
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia.workers import fork_protocol
from remotemedia.workers.fork_protocol import MOST_FDS, Ended, Here, Order, Refused, Started


@pytest.fixture
def pair():
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ends
    for end in ends:
        end.close()


@pytest.mark.parametrize(
    "answer", [Here(), Started(4_194_303), Refused(errno.EAGAIN, "für später"), Ended(os.CLD_KILLED, 9)]
)
def test_answers_arrive_as_they_were_given(answer, pair) -> None:
    here, there = pair
    here.send(fork_protocol.encode(answer))
    assert fork_protocol.receive_answer(there) == answer


def test_an_order_arrives_as_it_was_given() -> None:
    undecodable = os.fsdecode(b"caf\xe9")
    order = Order({"sys_path": ("/a", undecodable), "worker": {"token": b"\0\xff"}}, {"NAME": undecodable}, (1, 2, 77))
    assert Order.from_bytes(memoryview(order.to_bytes())) == order


@pytest.mark.parametrize("unread", [b"", b"message"], ids=["closed", "closed with something unread"])
@pytest.mark.parametrize("receive", [fork_protocol.receive_answer, fork_protocol.receive_request])
def test_the_end_of_the_other_side_is_seen(receive, unread, pair) -> None:
    here, there = pair
    if unread:
        here.send(unread)
    there.close()
    assert receive(here) is None


def test_the_most_descriptors_arrive_and_are_not_inherited(pair) -> None:
    here, there = pair
    zero = os.open("/dev/zero", os.O_RDONLY)
    sent = [zero] * (MOST_FDS + 3)
    socket.send_fds(here, [bytes([len(sent)])], sent)
    received = fork_protocol.receive_request(there)
    assert received is not None
    count, fds = received
    assert (count, len(set(fds))) == (len(sent), len(sent))
    assert not any(os.get_inheritable(fd) for fd in fds)
    assert os.read(fds[-1], 3) == bytes(3)
    for fd in (zero, *fds):
        os.close(fd)


class Table:
    """The descriptors of a process: number → what is open there."""

    def __init__(self, open_at: dict[int, str]) -> None:
        self.open = dict(open_at)

    def dup(self, fd: int) -> int:
        free = next(number for number in range(len(self.open) + 1) if number not in self.open)
        self.open[free] = self.open[fd]
        return free

    def dup2(self, fd: int, number: int) -> None:
        assert fd != number
        self.open[number] = self.open[fd]

    def close(self, fd: int) -> None:
        del self.open[fd]


@given(
    st.integers(0, 8).flatmap(
        lambda count: st.tuples(
            st.lists(st.integers(3, 12), min_size=count, max_size=count, unique=True),
            st.lists(st.integers(1, 14), min_size=count, max_size=count, unique=True),
        )
    )
)
def test_every_descriptor_gets_its_number_and_nothing_else_stays(numbers) -> None:
    now, wanted = numbers
    standard = {0: "stdin", 1: "stdout", 2: "stderr"}
    table = Table({**standard, **{fd: f"was {fd}" for fd in now}})
    fork_protocol.renumber(now, wanted, table.dup, table.dup2, table.close)
    assert table.open == {**standard, **{number: f"was {fd}" for fd, number in zip(now, wanted, strict=True)}}


def test_real_descriptors_change_places_and_only_standard_streams_are_inherited() -> None:
    contents = [b"first", b"second", b"third"]
    fds = []
    for content in contents:
        fds.append(os.memfd_create("test", os.MFD_CLOEXEC))
        os.write(fds[-1], content)
    fork_protocol.renumber(fds, [fds[1], fds[2], fds[0]])
    assert [os.pread(fd, 10, 0) for fd in (fds[1], fds[2], fds[0])] == contents
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in fds:
        os.close(fd)
