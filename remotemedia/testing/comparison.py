"""What two runs of a pipeline gave, compared output by output: what is missing, doubled, out of order or different."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

_DIGEST_BYTES = 16


class Trace(NamedTuple):
    """What is kept of one output: which one it is, and a digest of every bit of it."""

    label: Hashable
    digest: bytes


def digest(value: Any) -> bytes:
    """A digest of a value of arrays, dicts, sequences, bytes and plain values: the same for the same bits only."""
    state = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for piece in _pieces(value):
        state.update(piece)
    return state.digest()


def _pieces(value: Any) -> Iterator[Any]:
    if isinstance(value, np.ndarray):
        yield f"array {value.dtype.str} {value.shape}:".encode()
        yield np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    elif isinstance(value, dict):
        yield f"dict {len(value)}:".encode()
        for key, item in value.items():
            yield from _pieces(key)
            yield from _pieces(item)
    elif isinstance(value, (list, tuple)):
        yield f"{type(value).__name__} {len(value)}:".encode()
        for item in value:
            yield from _pieces(item)
    else:
        raw = value if isinstance(value, bytes) else repr(value).encode()
        yield f"{type(value).__name__} {len(raw)}:".encode()
        yield raw


def differences(expected: Sequence[Trace], got: Sequence[Trace]) -> list[str]:
    """One line for each kind of difference, with the first place where it shows; empty if the runs are the same."""
    if list(expected) == list(got):
        return []
    wanted, had = Counter(trace.label for trace in expected), Counter(trace.label for trace in got)
    lines = [
        *_listed("missing", list((wanted - had).elements())),
        *_listed("delivered more often than once", list((had - wanted).elements())),
    ]
    if not lines and [trace.label for trace in expected] != [trace.label for trace in got]:
        lines.append("all outputs are there, in another order")
    right = {trace.label: trace.digest for trace in expected}
    lines += _listed("with other bits", [t.label for t in got if t.label in right and right[t.label] != t.digest])
    shorter = min(len(expected), len(got))
    place = next((i for i in range(shorter) if expected[i] != got[i]), shorter)
    lines.append(f"first difference at output {place}: expected {_shown(expected, place)}, got {_shown(got, place)}")
    return lines


def _listed(what: str, labels: Sequence[Hashable]) -> list[str]:
    return [f"{what}: {len(labels)} outputs, the first {labels[0]}"] if labels else []


def _shown(traces: Sequence[Trace], place: int) -> str:
    if place >= len(traces):
        return "nothing"
    return f"{traces[place].label} ({traces[place].digest.hex()[:8]})"
