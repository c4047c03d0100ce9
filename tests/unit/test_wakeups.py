"""Nobody sleeps while somebody else could give what it waits for: every interleaving of a chain of three processes that
wait for acknowledgements, on processors that delay their writes as x86-64 does (store buffers).

The programs follow Stage._credit (the first process), Stage._next with _serve_demand (the second and the third), and
what a coordinator does that acknowledges at a time of its own (the last). Each is a list of instructions:

    get x · put x v · or x v: read, write, read and then write with bits added; writes wait in the process's buffer
    unless x v n · if x v n: go to label n unless, or if, any bit of v is set in x
    fence: goes on when the buffer is empty · ring x: the same, then writes the eventfd · sleep x: until it is written
"""

from __future__ import annotations

import itertools
from typing import Any, TypeAlias

import pytest

from remotemedia.ipc.doorbell import ACKNOWLEDGEMENT, CREDIT, DATA

Program: TypeAlias = list[tuple[Any, ...]]
_labels = itertools.count()


def _ring_for(who: str, what: int) -> Program:
    """Doorbell.ring_for."""
    skip = f"skip {next(_labels)}"
    return [("unless", f"word {who}", what, skip), ("put", f"word {who}", 0), ("ring", f"bell {who}"), ("label", skip)]


def _park(who: str, what: int, *, fences: bool) -> Program:
    return [("or", f"word {who}", what), *([("fence",)] if fences else [])]


def _acknowledge(who: str, sender: str, *, fences: bool) -> Program:
    """ShmReceiver.acknowledge."""
    fence: Program = [("fence",)] if fences else []
    return [("put", f"acknowledged {who}", 1), *fence, *_ring_for(sender, CREDIT | ACKNOWLEDGEMENT)]


def _first(who: str, receiver: str, *, fences: bool, demands: bool) -> Program:
    """Waits for credit that comes with an acknowledgement."""
    return [
        ("label", "again"),
        ("if", f"acknowledged {receiver}", 1, "end"),
        *_park(who, CREDIT, fences=fences),
        ("if", f"acknowledged {receiver}", 1, "end"),
        *(_ring_for(receiver, DATA) if demands else []),
        ("sleep", f"bell {who}"),
        ("jump", "again"),
        ("label", "end"),
    ]


def _between(sender: str, who: str, receiver: str, *, fences: bool, looks_again: bool) -> Program:
    """Has an input to acknowledge as soon as its output is acknowledged, and has nothing else to do."""
    settle: Program = [
        ("unless", f"acknowledged {receiver}", 1, "not yet"),
        *_acknowledge(who, sender, fences=fences),
        ("jump", "end"),
        ("label", "not yet"),
    ]
    again: Program = [
        ("unless", f"acknowledged {receiver}", 1, "still not"),
        *_acknowledge(who, sender, fences=fences),
        ("jump", "end"),
        ("label", "still not"),
    ]
    return [
        ("label", "again"),
        *settle,
        *_park(who, DATA, fences=fences),
        ("unless", f"word {sender}", CREDIT | ACKNOWLEDGEMENT, "sleep"),
        *_park(who, ACKNOWLEDGEMENT, fences=fences),
        *_ring_for(receiver, DATA),
        *(again if looks_again else []),
        ("label", "sleep"),
        ("sleep", f"bell {who}"),
        ("jump", "again"),
        ("label", "end"),
    ]


def _link(program: Program) -> Program:
    """Labels become positions."""
    found: dict[str, int] = {}
    plain: Program = []
    for instruction in program:
        if instruction[0] == "label":
            found[instruction[1]] = len(plain)
        else:
            plain.append(instruction)
    jumps = {"if", "unless", "jump"}
    return [(*i[:-1], found[i[-1]]) if i[0] in jumps else i for i in plain]


State: TypeAlias = tuple[frozenset[tuple[str, int]], tuple[tuple[int, int, tuple[tuple[str, int], ...]], ...]]
"""Memory (what is not 0), and for each process: position, register (-1: empty) and the writes in its buffer."""


def _load(memory: dict[str, int], buffer: tuple[tuple[str, int], ...], name: str) -> int:
    for written, value in reversed(buffer):
        if written == name:
            return value
    return memory.get(name, 0)


def _next_states(programs: list[Program], state: State) -> list[State]:  # noqa: C901 - one branch per instruction
    memory, processes = dict(state[0]), state[1]
    states: list[State] = []

    def reach(
        index: int, at: int, register: int, buffer: tuple[tuple[str, int], ...], write: tuple[str, int] | None = None
    ) -> None:
        after = dict(memory)
        if write is not None:
            after[write[0]] = write[1]
        changed = (*processes[:index], (at, register, buffer), *processes[index + 1 :])
        states.append((frozenset((n, v) for n, v in after.items() if v), changed))

    for index, (at, register, buffer) in enumerate(processes):
        if buffer:  # the oldest write reaches the memory
            reach(index, at, register, buffer[1:], buffer[0])
        if at == len(programs[index]):
            continue
        kind, *operands = programs[index][at]
        if kind in {"if", "unless"}:
            name, bits, target = operands
            is_set = bool(_load(memory, buffer, name) & bits)
            reach(index, target if is_set == (kind == "if") else at + 1, -1, buffer)
        elif kind == "jump":
            reach(index, operands[0], -1, buffer)
        elif kind == "put":
            reach(index, at + 1, -1, (*buffer, (operands[0], operands[1])))
        elif kind == "or" and register < 0:
            reach(index, at, _load(memory, buffer, operands[0]), buffer)
        elif kind == "or":
            reach(index, at + 1, -1, (*buffer, (operands[0], register | operands[1])))
        elif kind == "fence" and not buffer:
            reach(index, at + 1, -1, ())
        elif kind == "ring" and not buffer:
            reach(index, at + 1, -1, (), (operands[0], 1))
        elif kind == "sleep" and not buffer and memory.get(operands[0]):
            reach(index, at + 1, -1, (), (operands[0], 0))
    return states


def _explore(programs: list[Program]) -> tuple[int, int]:
    """How many states there are, and how many of them are a standstill before everybody has ended."""
    linked = [_link(program) for program in programs]
    first: State = (frozenset(), tuple((0, -1, ()) for _ in linked))
    seen, waiting, stuck = {first}, [first], 0
    while waiting:
        state = waiting.pop()
        following = _next_states(linked, state)
        if not following and any(p[0] < len(q) for p, q in zip(state[1], linked, strict=True)):
            stuck += 1
        for other in following:
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return len(seen), stuck


def _chain(*, fences: bool = True, demands: bool = True, looks_again: bool = True) -> list[Program]:
    return [
        _first("a", "b", fences=fences, demands=demands),
        _between("a", "b", "c", fences=fences, looks_again=looks_again),
        _between("b", "c", "d", fences=fences, looks_again=looks_again),
        _acknowledge("d", "c", fences=fences),
    ]


def test_no_wake_up_is_lost() -> None:
    states, stuck = _explore(_chain())
    assert states > 1000
    assert not stuck


@pytest.mark.parametrize("without", ["fences", "demands", "looks_again"])
def test_each_part_is_needed(without: str) -> None:
    _, stuck = _explore(_chain(**{without: False}))
    assert stuck


def test_a_ringer_that_dies_between_clearing_and_ringing_leaves_a_sleeper() -> None:
    """Why the next generation of a sender, as that of a receiver, rings once whatever the word says."""
    sleeper: Program = [
        ("label", "again"),
        ("if", "frame", 1, "end"),
        *_park("b", DATA, fences=True),
        ("if", "frame", 1, "end"),
        ("sleep", "bell b"),
        ("jump", "again"),
        ("label", "end"),
    ]
    died: Program = [("unless", "word b", DATA, "end"), ("put", "word b", 0), ("label", "end"), ("fence",)]
    successor: Program = [("put", "frame", 1), ("fence",), *_ring_for("b", DATA)]
    rings: Program = [("ring", "bell b")]
    assert _explore([sleeper, [*died, *successor]])[1]
    assert not _explore([sleeper, [*died, *rings, *successor]])[1]
