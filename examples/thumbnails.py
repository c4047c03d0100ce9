"""One clip, three sizes of thumbnails: a decoder fans out to three workers, each writes its own numbered pictures.

    python examples/thumbnails.py [CLIP] [--every 15]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from remotemedia import Node, VideoFrame, run_pipeline
from remotemedia.testing.sources import make_clip

WIDTHS = (64, 160, 320)


class Every(Node):
    """Lets every n-th picture through."""

    def __init__(self, n: int, **options) -> None:
        super().__init__(n=n, **options)
        self.n, self.count = n, 0

    def process(self, frame: VideoFrame):
        self.count += 1
        return frame if (self.count - 1) % self.n == 0 else None


class PpmSink(Node):
    """Writes each picture as a .ppm file, which needs no library, and tells its path."""

    def __init__(self, folder: str, **options) -> None:
        super().__init__(folder=folder, **options)
        self.folder = Path(folder)

    def process(self, frame: VideoFrame) -> str:
        path = self.folder / f"{frame.width}x{frame.height}_{frame.time_s:06.2f}.ppm"
        path.write_bytes(b"P6 %d %d 255\n" % (frame.width, frame.height) + frame.array.tobytes())
        return str(path)


def manifest(clip: Path, folder: Path, every: int) -> dict:
    nodes = [
        {"id": "decode", "node_type": "VideoFileSource", "params": {"path": str(clip)}},
        {"id": "every", "node_type": f"{__name__}:Every", "params": {"n": every}},
    ]
    connections = [{"from": "decode", "to": "every"}]
    for width in WIDTHS:
        resize, write = f"resize{width}", f"write{width}"
        nodes += [
            {"id": resize, "node_type": "Resize", "params": {"width": width}, "executor": "multiprocess"},
            {"id": write, "node_type": f"{__name__}:PpmSink", "params": {"folder": str(folder)}},
        ]
        connections += [{"from": "every", "to": resize}, {"from": resize, "to": write}]
    return {"version": "v1", "nodes": nodes, "connections": connections}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make thumbnails of a clip.")
    parser.add_argument("clip", type=Path, nargs="?", help="default: a synthetic clip")
    parser.add_argument("--every", type=int, default=15, help="take every n-th picture")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="remotemedia-"))
    if arguments.clip is None:
        arguments.clip = folder / "clip.mp4"
        make_clip(arguments.clip, seconds=3, width=640, height=360)

    paths = run_pipeline(manifest(arguments.clip, folder, arguments.every))
    for path in paths:
        print(path)
    print(f"{len(paths)} thumbnails in {folder}")


if __name__ == "__main__":
    main()
