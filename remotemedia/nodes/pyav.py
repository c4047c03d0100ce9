"""The one place that imports PyAV (extra [media]), and opening media with errors that say what is wrong.

PyAV is imported when a node is initialized, so in the process that runs it; importing this module costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remotemedia.core.exceptions import ConfigurationError, NodeError

DEVICE_FORMATS = ("alsa", "avfoundation", "dshow", "fbdev", "gdigrab", "pulse", "v4l2", "video4linux2", "x11grab")
"""FFmpeg's names of what reads from a device and not from a file."""


def import_av() -> Any:
    """PyAV. Raises ConfigurationError with the extra to install."""
    try:
        import av
    except ImportError as error:
        raise ConfigurationError("media files need PyAV: pip install 'remotemedia[media]'") from error
    return av


def is_live(url: str, media_format: str | None) -> bool:
    """Whether `url` is something that can come back after it was lost: a network address or a device."""
    scheme = re.match(r"([a-z][a-z0-9+.-]+):", url)  # two letters at least
    network = scheme is not None and scheme[1] not in {"file", "pipe", "data", "concat", "subfile", "cache", "crypto"}
    return media_format in DEVICE_FORMATS or (network and media_format != "lavfi")


def opened(
    node: str,
    url: str,
    mode: str = "r",
    *,
    media_format: str | None = None,
    options: Mapping[str, Any] | None = None,
    timeout_s: float | None = None,
) -> Any:
    """`av.open`. Raises NodeError that says what is wrong: no such file, format, protocol or device; no answer."""
    av = import_av()
    try:
        texts = {key: str(value) for key, value in (options or {}).items()}
        return av.open(url, mode, format=media_format, options=texts, timeout=timeout_s)
    except (OSError, ValueError, LookupError, av.error.FFmpegError) as error:
        what = "open" if mode == "r" else "write"
        raise NodeError(node, f"cannot {what} {url!r}: {_reason(av, error, url, media_format, timeout_s)}") from error


def _reason(av: Any, error: Exception, url: str, media_format: str | None, timeout_s: float | None) -> str:
    if isinstance(error, av.error.ExitError):
        return f"no answer within {timeout_s:g} s (timeout_s)"
    if isinstance(error, av.error.ProtocolNotFoundError):
        return f"this FFmpeg has no protocol {url.partition(':')[0]!r}"
    if not isinstance(error, av.error.FFmpegError):
        if "container format" in str(error):
            return f"format={media_format!r}: this FFmpeg has no such format or device"
        return str(error)
    text = error.strerror or str(error)
    if media_format in {"v4l2", "video4linux2"} and not Path(url).exists():
        there = ", ".join(sorted(map(str, Path("/dev").glob("video*"))))
        return f"{text}; cameras here: {there or 'none (no /dev/video*)'}"
    return str(text)
