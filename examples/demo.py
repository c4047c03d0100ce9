"""Decode a clip, process picture and sound in workers of their own, encode the result; with live numbers.

                ┌─► denoise (worker) ─► motion boxes (worker) ─┐
    decode ─────┤                                              ├─► encode
                └─► loudness (worker) ─────────────────────────┘

    python examples/demo.py [--executor inline] [--seconds 10] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter

from remotemedia import run_pipeline
from remotemedia.nodes.media_io import FileSummary, probe
from remotemedia.testing.sources import make_clip

MANIFEST = Path(__file__).with_name("demo.json")


def main() -> None:
    arguments = parsed_arguments()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    clip, out = arguments.folder / "clip.mp4", arguments.folder / "out.mp4"

    started = perf_counter()
    print(f"making a clip of {arguments.seconds:g} s, {arguments.width}x{arguments.height} …", flush=True)
    made = make_clip(clip, seconds=arguments.seconds, width=arguments.width, height=arguments.height)
    print(f"  {made} in {perf_counter() - started:.1f} s")

    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    for node_id, path in (("decode", clip), ("encode", out)):
        next(node for node in manifest["nodes"] if node["id"] == node_id)["params"]["path"] = str(path)
    result = run_pipeline(manifest, executor=arguments.executor, enable_metrics=True, progress=not arguments.quiet)
    report(result["metrics"], result["outputs"])


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the demo pipeline.")
    parser.add_argument("--executor", help="inline: everything in this process (default: as the manifest says)")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "remotemedia-demo")
    parser.add_argument("--quiet", action="store_true", help="no live numbers")
    return parser.parse_args()


def report(metrics: dict, written: FileSummary) -> None:
    seconds = metrics["total_duration_us"] / 1e6
    print(f"\n{written.frames} pictures in {seconds:.2f} s: {written.frames / seconds:.1f} frames/s")
    print("stage         calls   p50 ms   p99 ms   copies")
    for m in metrics["node_metrics"]:
        p50, p99 = m["p50_us"] / 1e3, m["p99_us"] / 1e3
        print(f"{m['node_id']:<12}{m['calls']:>7}{p50:>9.2f}{p99:>9.2f}{m['copies']:>9}")

    print(f"\nwrote {written}")
    for stream in probe(written.path):
        print(f"  {stream.kind}: {stream.codec}, {stream.details}, {stream.seconds:.2f} s")


if __name__ == "__main__":
    main()
