"""How loud are these recordings? A plain script: no asyncio, several threads over one pool of warm workers.

    python examples/levels.py a.wav b.wav ...
    arecord -t raw -f S16_LE -r 16000 | python examples/levels.py   the level of each second, until Ctrl-C, SIGTERM

WAV files with 16-bit samples; the standard input: such samples, mono, 16 kHz.
"""

from __future__ import annotations

import signal
import sys
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import numpy as np

from remotemedia import Node, WorkerPool

RATE = 16_000  # samples per second of the standard input


class Decode(Node):
    """Bytes to samples from -1 to 1."""

    def process(self, data: bytes) -> Any:
        samples = np.frombuffer(data, np.int16)
        return np.divide(samples, 32_768, out=self.empty(samples.shape, np.float32))


class Power(Node):
    """Mean power of a chunk, and how many samples it has."""

    def process(self, sound: Any) -> tuple[float, int]:
        return float(np.mean(np.square(sound))), len(sound)


def decibels(power: float) -> str:
    return f"{10 * np.log10(power + 1e-10):.1f} dB"


def seconds_of(path: str) -> Iterator[bytes]:
    with wave.open(path) as file:
        if file.getsampwidth() != 2:
            raise ValueError(f"{path} has {8 * file.getsampwidth()}-bit samples, not 16-bit")
        while data := file.readframes(file.getframerate()):
            yield data


def seconds_from(stream: BinaryIO) -> Iterator[bytes]:
    while data := stream.read(2 * RATE):
        yield data[: len(data) // 2 * 2]


def level_of(pool: WorkerPool, path: str) -> str:
    parts = list(pool.map(seconds_of(path)))  # in this thread; other threads have their own streams through the pool
    samples = sum(count for _, count in parts)
    return decibels(sum(power * count for power, count in parts) / samples) if samples else "empty"


def main(paths: list[str]) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the blocks below are left, nothing stays
    with WorkerPool([Decode(), Power()]) as pool:
        if not paths:
            for second in seconds_from(sys.stdin.buffer):  # live: each is wanted before the next is read
                print(decibels(pool.run(second)[0]), flush=True)
            return
        with ThreadPoolExecutor(4) as threads:
            for path, level in zip(paths, threads.map(lambda path: level_of(pool, path), paths), strict=True):
                print(f"{path}: {level}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
