"""dora: the stages are nodes of a dataflow that `dora run` starts; `python -m` of this module is one of them.

Nodes write into the buffers that dora sends (`send_output_raw`). The producer and sink is a node as well. dora starts its
nodes itself, so it starts a stand-in, from which this process gets the environment that makes it that node. (dora's
"dynamic" nodes, which join from outside, all need the same port, and have to try until they get in.)

With `queue_policy: backpressure` no frame is lost, but dora sends all of them through its daemon. By default they go
from node to node in shared memory, and dora drops what is too much: such a chain is only ever given one frame at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import dora_cli  # noqa: F401 - the command `dora` is an own package: without it there is nothing to measure
import numpy as np
import psutil  # type: ignore[import-untyped]
from dora import Node

from benchmarks.peers.base import BlockingContestant
from benchmarks.peers.spawned import STOP_TIMEOUT_S
from benchmarks.work import KIB, MIB, WINDOW, Array, Work

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
    queue: dict[str, Any] = {"queue_size": WINDOW, "queue_policy": "backpressure"}  # noqa: RUF012 - never changed

    async def start(self, stages: int, work: Work, size: int) -> None:
        self._size = size
        self._directory = Path(tempfile.mkdtemp(prefix="dora-"))
        os.mkfifo(self._directory / ENVIRONMENT)
        os.mkfifo(self._directory / END)
        dataflow = self._directory / "dataflow.yml"
        dataflow.write_text(json.dumps({"nodes": self._nodes(stages, work)}))  # JSON is YAML too
        path = os.pathsep.join([str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._dora = subprocess.Popen(
            [DORA, "run", dataflow], cwd=self._directory, env=os.environ | {"PYTHONPATH": path}, stdin=subprocess.DEVNULL
        )
        entries = (self._directory / ENVIRONMENT).read_bytes().decode().split("\0")
        given = dict(entry.split("=", 1) for entry in entries if entry.startswith("DORA_"))
        given.pop(PARENT, None)
        self._end = (self._directory / END).open("wb")
        os.environ.update(given)
        self._node = Node()  # returns when all nodes are there
        for name in given:
            del os.environ[name]

    def send(self, frame: Array) -> None:
        with self._node.send_output_raw(FRAME, self._size) as buffer:
            np.copyto(np.frombuffer(buffer, np.uint8), frame)

    def receive(self) -> Array:
        while (event := self._node.next())["type"] != "INPUT":
            if event["type"] in {"STOP", "ERROR"}:
                raise RuntimeError(f"the dataflow has ended: {event}")
        frame: Array = event["value"].to_numpy(zero_copy_only=True)
        return frame

    def stage_pids(self) -> Sequence[int]:
        stages = [child for child in psutil.Process(self._dora.pid).children() if __name__ in child.cmdline()]
        return [child.pid for child in sorted(stages, key=lambda stage: int(stage.cmdline()[-1]))]

    async def stop(self) -> None:
        del self._node
        self._end.close()
        self._dora.send_signal(signal.SIGINT)
        try:
            self._dora.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._dora.kill()  # the nodes notice it
            self._dora.wait()
        shutil.rmtree(self._directory)

    def _nodes(self, stages: int, work: Work) -> list[dict[str, Any]]:
        # A sample has room for a bit per byte besides (Arrow's marks of what is missing), and a header.
        pool = max(LEAST_POOL_BYTES, POOL_FRAMES * (self._size * 9 // 8 + 4 * KIB))
        sources = ["main", *(f"stage_{stage}" for stage in range(stages))]
        commands = [
            {"path": "/bin/sh", "args": STAND_IN},
            *(
                {"path": sys.executable, "args": f"-m {__name__} {work.name} {self._size} {stage}"}
                for stage in range(stages)
            ),
        ]
        return [
            {
                "id": name,
                **command,
                "inputs": {FRAME: {"source": f"{source}/{FRAME}", **self.queue}},
                "outputs": [FRAME],
                "shared_memory_pool_size": pool,
            }
            for name, source, command in zip(sources, [sources[-1], *sources], commands, strict=False)
        ]


class DoraDefaults(DoraDataflow):
    queue: dict[str, Any] = {}  # noqa: RUF012

    async def stream(self, frames: Iterable[Array], window: int) -> AsyncIterator[Array]:
        async for out in super().stream(frames, 1):
            yield out


def fill(buffer: Any, frame: Array, work: Work) -> None:
    """Write the result for `frame` into the buffer. No view of it is left: else dora would refuse to send it."""
    loaned = np.frombuffer(buffer, np.uint8)
    result = work.result_for(frame, lambda _: loaned)
    if result is not loaned:
        np.copyto(loaned, result)


def run_stage(work: Work, size: int) -> None:
    """Body of a stage; ends with the dataflow."""
    node = Node()
    for event in node:
        if event["type"] == "INPUT":
            with node.send_output_raw(FRAME, size) as buffer:
                fill(buffer, event["value"].to_numpy(zero_copy_only=True), work)
        elif event["type"] == "STOP":
            return


if __name__ == "__main__":
    run_stage(Work[sys.argv[1]], int(sys.argv[2]))
