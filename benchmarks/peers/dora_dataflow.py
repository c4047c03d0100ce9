"""dora: the stages are nodes of a dataflow that `dora run` starts; `python -m` of this module is one of them.

Nodes write into the buffers that dora sends (`send_output_raw`). The producer and sink is a node as well. As dora
starts its nodes itself, it starts a stand-in, from which this process gets the environment that makes it that node.
(dora's "dynamic" nodes, which join from outside, all use the same port, and have to try until they get in.)

With `queue_policy: backpressure` no frame is lost, but dora sends all of them through its daemon. By default they go
from node to node in shared memory, and with several in flight some are lost, however long the queues are: such a chain
is only ever given one frame at a time.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
from dora import Node

from benchmarks.peers.base import BlockingContestant
from benchmarks.peers.spawned import STOP_TIMEOUT_S
from benchmarks.process_tree import mapped_shared_memory, tree_of
from benchmarks.work import KIB, MIB, WINDOW, Array, Work

importlib.metadata.distribution("dora-rs-cli")  # raises an ImportError: the command is a package of its own
DORA = Path(sysconfig.get_path("scripts")) / "dora"
FRAME = "frame"
ENVIRONMENT, END = "environment", "end"
STAND_IN = f"-c 'cat /proc/self/environ > {ENVIRONMENT}; exec cat {END}'"
PARENT = "DORA_RUN_PARENT_PID"
"""A node ends if that process is not its parent."""

LEAST_POOL_BYTES = 8 * MIB
"""What dora gives a node for its frames by default."""
POOL_FRAMES = WINDOW + 4


class DoraDataflow(BlockingContestant):
    queue: Mapping[str, Any] = {"queue_size": WINDOW, "queue_policy": "backpressure"}
    """Of each input."""

    def __init__(self) -> None:
        atexit.register(lambda: remove(mapped_here()))

    async def start(self, stages: int, work: Work, size: int) -> None:
        self._size = size
        self._directory = Path(tempfile.mkdtemp(prefix="dora-"))
        environment, end = self._directory / ENVIRONMENT, self._directory / END
        os.mkfifo(environment)
        os.mkfifo(end)
        self._dora = self._run(self._nodes(stages, work))
        entries = [entry.partition("=") for entry in environment.read_bytes().decode().split("\0")]
        given = {name: value for name, _, value in entries if name.startswith("DORA_") and name != PARENT}
        self._end = end.open("wb")
        os.environ.update(given)
        self._node: Any = Node()  # returns when all nodes are there
        for name in given:  # they must not reach the next dataflow
            del os.environ[name]

    def send(self, frame: Array) -> None:
        with self._node.send_output_raw(FRAME, self._size) as buffer:
            np.copyto(np.frombuffer(buffer, np.uint8), frame)

    def receive(self) -> Array:
        while (event := self._node.next()) and event["type"] not in {"STOP", "ERROR"}:
            if event["type"] == "INPUT":
                frame: Array = event["value"].to_numpy(zero_copy_only=True)
                return frame
        raise RuntimeError(f"the dataflow has ended: {event}")

    def stage_pids(self) -> Sequence[int]:
        stages = [child for child in psutil.Process(self._dora.pid).children() if __name__ in child.cmdline()]
        return [child.pid for child in sorted(stages, key=lambda stage: int(stage.cmdline()[-1]))]

    async def stop(self) -> None:
        files = mapped_shared_memory(tree_of(self._dora.pid))
        del self._node  # closes it
        self._end.close()
        self._dora.send_signal(signal.SIGINT)
        try:
            self._dora.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._dora.kill()  # the nodes notice it
            self._dora.wait()
        remove(files - mapped_here())
        shutil.rmtree(self._directory)

    def _run(self, nodes: list[dict[str, Any]]) -> subprocess.Popen[bytes]:
        dataflow = self._directory / "dataflow.yml"
        dataflow.write_text(json.dumps({"nodes": nodes}))  # JSON is YAML too
        path = os.pathsep.join([str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": path}  # the stages import the benchmarks by that
        return subprocess.Popen([DORA, "run", dataflow], cwd=self._directory, env=environment, stdin=subprocess.DEVNULL)

    def _nodes(self, stages: int, work: Work) -> list[dict[str, Any]]:
        names = ["main", *(f"stage_{stage}" for stage in range(stages))]
        arguments = [f"-m {__name__} {work.name} {self._size} {stage}" for stage in range(stages)]
        commands = [("/bin/sh", STAND_IN), *((sys.executable, text) for text in arguments)]
        # A sample has room for one more bit per byte (Arrow's marks of what is missing), and for a header.
        pool = max(LEAST_POOL_BYTES, POOL_FRAMES * (self._size * 9 // 8 + 4 * KIB))
        return [
            {
                "id": name,
                "path": program,
                "args": text,
                "inputs": {FRAME: {"source": f"{names[index - 1]}/{FRAME}", **self.queue}},  # main's: of the last one
                "outputs": [FRAME],
                "shared_memory_pool_size": pool,
            }
            for index, (name, (program, text)) in enumerate(zip(names, commands, strict=True))
        ]


class DoraDefaults(DoraDataflow):
    """From node to node."""

    queue: Mapping[str, Any] = {}

    async def stream(self, frames: Iterable[Array], window: int) -> AsyncIterator[Array]:
        async for out in super().stream(frames, 1):
            yield out


def mapped_here() -> set[Path]:
    """Files in /dev/shm that this process has mapped: it needs some of them for its next dataflow."""
    return mapped_shared_memory([psutil.Process()])


def remove(files: Iterable[Path]) -> None:
    """Each process leaves a file in /dev/shm, until another that uses the same transport (zenoh) finds it."""
    for file in files:
        file.unlink(missing_ok=True)


def fill(buffer: Any, frame: Array, work: Work) -> None:
    """Write the result for `frame` into the buffer. No view of it is left: else dora would refuse to send it."""
    loaned = np.frombuffer(buffer, np.uint8)
    result = work.result_for(frame, lambda _: loaned)
    if result is not loaned:
        np.copyto(loaned, result)


def run_stage(work: Work, size: int) -> None:
    """Body of a stage; ends with the dataflow."""
    node: Any = Node()  # dora's type hints lack send_output_raw
    for event in node:
        if event["type"] == "INPUT":
            with node.send_output_raw(FRAME, size) as buffer:
                fill(buffer, event["value"].to_numpy(zero_copy_only=True), work)
        elif event["type"] == "STOP":
            return


if __name__ == "__main__":
    run_stage(Work[sys.argv[1]], int(sys.argv[2]))
