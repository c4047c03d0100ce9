"""The smallest pipeline: two nodes, each in a process of its own, frames in shared memory between them.

    python examples/hello.py
"""

import asyncio

import numpy as np

from remotemedia import Node, execute_pipeline


class Brighten(Node):
    def process(self, frame):
        out = self.empty_like(frame)  # a slot in shared memory when run in a worker
        np.add(frame, 40, out=out)
        return out


frames = [np.zeros((1080, 1920, 3), np.uint8) for _ in range(8)]
outputs = asyncio.run(execute_pipeline([Brighten(), Brighten()], frames, executor="multiprocess"))
print(f"{len(outputs)} frames of {outputs[0].shape}, brightened twice: every value is {outputs[0].min()}")
