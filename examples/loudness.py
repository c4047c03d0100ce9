"""Bring sound to 16 kHz mono of one loudness, as speech models want it, in three worker processes.

    python examples/loudness.py [IN OUT.wav]        without files: a tone of changing loudness
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from remotemedia import run_pipeline
from remotemedia.nodes import AudioFileSink, AudioFileSource, Loudness, Resample, ToMono
from remotemedia.testing.sources import swelling_tone


def measured(path: Path) -> list[float]:
    """Loudness in LUFS over the last 3 s, at every second of the file."""
    frames = run_pipeline([AudioFileSource(path), Loudness()])
    found = {int(f.time_s): f.metadata["loudness_lufs"] for f in frames if f.metadata["loudness_lufs"] is not None}
    return list(found.values())


def write_tone(path: Path) -> None:
    run_pipeline([AudioFileSink(path)], swelling_tone(seconds=18, step_s=6))


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="remotemedia-"))
    source, target = map(Path, sys.argv[1:3]) if len(sys.argv) > 2 else (folder / "tone.wav", folder / "even.wav")
    if len(sys.argv) <= 2:
        write_tone(source)
    written = run_pipeline(
        [
            AudioFileSource(source),
            ToMono(executor="multiprocess"),
            Resample(16_000, executor="multiprocess"),
            Loudness(-16, executor="multiprocess"),
            AudioFileSink(target),
        ]
    )
    print(f"before: {' '.join(f'{lufs:6.1f}' for lufs in measured(source))} LUFS")
    print(f"after:  {' '.join(f'{lufs:6.1f}' for lufs in measured(target))} LUFS")
    print(f"wrote {written}")


if __name__ == "__main__":
    main()
