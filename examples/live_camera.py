"""A camera that is faster than the work on its pictures: what there is no time for is dropped, so results are fresh.

    python examples/live_camera.py [--camera /dev/video0] [--seconds 3]

Without a camera, FFmpeg's test picture stands in for one, in real time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from remotemedia import PoolConfig, VideoFrame, WorkerPool
from remotemedia.nodes import Denoise, MediaSource, MotionDetector, Resize

RATE = 60


def camera(device: str | None, seconds: float) -> MediaSource:
    if device is None:
        picture = f"testsrc2=size=1280x720:rate={RATE}:duration={seconds},realtime"
        return MediaSource(picture, format="lavfi", audio=False)
    options = {"framerate": 30, "video_size": "1280x720"}
    return MediaSource(device, format="v4l2", options=options, audio=False, reconnects=10)


class Counted:
    """How many pictures the camera gave, for at most so many seconds of them."""

    def __init__(self, source: MediaSource, seconds: float) -> None:
        self.source, self.seconds, self.count = source, seconds, 0

    async def pictures(self):
        async with contextlib.aclosing(self.source.live()) as frames:
            first_s = None
            async for frame in frames:
                first_s = frame.time_s if first_s is None else first_s
                if frame.time_s - first_s >= self.seconds:
                    return
                self.count += 1
                yield frame


async def watch(device: str | None, seconds: float) -> None:
    nodes = [Denoise("median"), MotionDetector(), Resize(320, 180)]
    config = PoolConfig(in_flight_frames=2)  # few under way: each result is of a moment ago
    counted = Counted(camera(device, seconds), seconds)
    async with WorkerPool(nodes, config=config) as pool:
        seen, moving, last = 0, 0, None
        async with contextlib.aclosing(pool.stream(counted.pictures(), overflow="drop_oldest")) as results:
            async for frame in results:
                assert isinstance(frame, VideoFrame)
                seen, moving, last = seen + 1, moving + bool(frame.metadata["boxes"]), frame
        drops = pool.snapshot().drops
    print(f"{counted.count} pictures came, {seen} were worked on, {drops} were dropped; something moved in {moving}")
    print(f"the last one: {last.width}x{last.height} at {last.time_s:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--camera", help="a device such as /dev/video0 (default: a test picture)")
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    asyncio.run(watch(arguments.camera, arguments.seconds))


if __name__ == "__main__":
    main()
