"""Media in through PyAV (extra [media]): files, network streams and cameras, decoded into typed frames."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from fractions import Fraction
from time import monotonic
from typing import Any

from remotemedia.core.exceptions import ConfigurationError, NodeError
from remotemedia.core.frames import MediaFrame
from remotemedia.core.node import Node
from remotemedia.core.pixel_formats import pixel_format as known_format
from remotemedia.nodes.decoding import Decoder
from remotemedia.nodes.pyav import is_live, opened

KINDS = ("video", "audio")


class MediaSource(Node):
    """Decode what is at `url` into VideoFrames and AudioFrames: a file, a network stream (rtsp, http, udp …), a camera.

    Takes nothing. Gives pictures as `pixel_format` (FFmpeg's name; "rgb24": uint8 (height, width, 3); "yuv420p": uint8
    (height * 3/2, width), see `VideoFrame.planes`) and sound as float32 (samples, channels) in -1..1 at its own rate.
    pts and time base are those of the medium; each kind comes in order of time. Pictures have metadata["frame_rate"]
    if the medium tells it, and metadata["colour_space"] ("bt601", "bt709") in a YUV format.

    `format` and `options` go to FFmpeg: `MediaSource("/dev/video0", format="v4l2", options={"framerate": 30})`,
    `MediaSource("rtsp://…", options={"rtsp_transport": "tcp"})`, and as a stand-in for a camera
    `MediaSource("testsrc2=size=640x480:rate=30,realtime", format="lavfi")`. `video=False` or `audio=False` leaves a
    kind out; `video_stream`, `audio_stream` count the streams of a kind from 0.

    `timeout_s`: how long to wait for the opening and for each piece of data (None: for ever). `reconnects`: when a
    stream or camera is lost, ends or is silent for too long, connect again, at most so often in a row without a frame,
    after `reconnect_wait_s` seconds, twice as long each time, up to ten times that. Frames then have
    metadata["reconnects"], and their time goes on by the time that was lost.

    In a file, what cannot be decoded is an error. In a network stream or from a camera it is left out, and logged: one
    joins them in the middle, and the network loses some.

    Raises ConfigurationError for bad settings and without PyAV. NodeError when initialized: no such file, device,
    address, format, protocol or stream, no decoder in this FFmpeg, no answer; later: damaged or lost.

    >>> frames = run_pipeline([MediaSource("clip.mp4", audio=False, pixel_format="yuv420p")])
    >>> len(frames), frames[1].array.shape, frames[1].array.dtype, frames[1].time_s
    (25, (72, 64), dtype('uint8'), 0.04)
    >>> [plane.shape for plane in frames[1].planes]
    [(48, 64), (24, 32), (24, 32)]
    """

    _MOST_TIMES_LONGER = 10

    def __init__(
        self,
        url: str | os.PathLike[str],
        *,
        format: str | None = None,  # noqa: A002 - as FFmpeg calls it
        options: Mapping[str, Any] | None = None,
        video: bool = True,
        audio: bool = True,
        video_stream: int = 0,
        audio_stream: int = 0,
        pixel_format: str = "rgb24",
        timeout_s: float | None = 10.0,
        reconnects: int = 0,
        reconnect_wait_s: float = 0.5,
        name: str | None = None,
        **node_options: Any,
    ) -> None:
        self.url = os.fspath(url)
        settings: dict[str, Any] = {
            "url": self.url, "format": format, "options": dict(options or {}), "video": video, "audio": audio,
            "video_stream": video_stream, "audio_stream": audio_stream, "pixel_format": pixel_format,
            "timeout_s": timeout_s, "reconnects": reconnects, "reconnect_wait_s": reconnect_wait_s,
        }  # fmt: skip
        super().__init__(name, **settings, **node_options)
        self._check(settings)
        self.format, self.options, self.timeout_s = format, dict(options or {}), timeout_s
        self.streams = {
            kind: number
            for kind, wanted, number in zip(KINDS, (video, audio), (video_stream, audio_stream), strict=True)
            if wanted
        }
        self.pixel_format = pixel_format
        self.reconnects, self.reconnect_wait_s = reconnects, reconnect_wait_s
        self._decoder: Decoder | None = None
        self._begun = False
        self._wake = threading.Event()

    def _check(self, settings: Mapping[str, Any]) -> None:
        def refuse(setting: str, expected: str) -> ConfigurationError:
            return ConfigurationError(f"{type(self).__name__}({setting}={settings[setting]!r}): expected {expected}")

        if not (settings["video"] or settings["audio"]):
            raise ConfigurationError(f"{type(self).__name__}(video=False, audio=False): expected at least one of them")
        known_format(settings["pixel_format"])
        for setting in ("video_stream", "audio_stream", "reconnects"):
            if not isinstance(settings[setting], int) or settings[setting] < 0:
                raise refuse(setting, "a number, 0 or more")
        if settings["timeout_s"] is not None and settings["timeout_s"] <= 0:
            raise refuse("timeout_s", "seconds, more than 0, or None")
        if settings["reconnect_wait_s"] is None or settings["reconnect_wait_s"] <= 0:
            raise refuse("reconnect_wait_s", "seconds, more than 0")
        if settings["reconnects"] and not is_live(self.url, settings["format"]):
            raise refuse("reconnects", f"0, because {self.url!r} is no network stream and no device")

    def initialize(self) -> None:
        """Open it. Raises NodeError if it cannot be opened or has none of the streams that are wanted."""
        self._wake = threading.Event()
        self._decoder = self._opened()
        self._begun = False
        self._lost = self._failed = 0  # connections: lost in all, and lost in a row before they gave a frame
        self._last_s, self._last_at = Fraction(0), monotonic()

    def _opened(self, *, start_s: Fraction | None = None, count: int = 0) -> Decoder:
        container = opened(
            self.name, self.url, media_format=self.format, options=self.options, timeout_s=self.timeout_s
        )
        try:
            return Decoder(
                self.name,
                container,
                self.streams,
                self.pixel_format,
                self.empty,
                start_s=start_s,
                metadata={"reconnects": count} if count else None,
                tolerant=is_live(self.url, self.format),
            )
        except BaseException:
            container.close()
            raise

    def process(self) -> Iterator[MediaFrame]:  # type: ignore[override]  # a source takes nothing
        """All frames, each time from the start. Raises NodeError where the medium is damaged or lost."""
        if self._decoder is None or self._begun:
            self.cleanup()
            self.initialize()
        self._begun = True
        while self._decoder is not None:
            decoder, reason = self._decoder, "it ended"
            cause: Exception | None = None
            try:
                yield from decoder.frames()
            except TimeoutError as silence:
                reason, cause = f"nothing came for {self.timeout_s:g} s (timeout_s)", silence
            except NodeError as damage:
                reason, cause = damage.reason, damage
            self._close()
            if self.reconnects:
                self._connect_again(decoder, reason, cause)
            elif isinstance(cause, NodeError):
                raise cause
            elif cause is not None:
                raise NodeError(self.name, f"{self.url!r}: {reason}") from cause

    async def live(self) -> AsyncIterator[MediaFrame]:
        """The frames as they come, read here by a thread of their own: what `pool.stream(source.live(),
        overflow="drop_oldest")` takes. Close the iterator to stop early; a read that is under way is waited for.

        Raises NodeError as `initialize` and `process` do.
        """
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        reader, loop = ThreadPoolExecutor(1, thread_name_prefix=f"remotemedia {self.name}"), asyncio.get_running_loop()
        try:
            await loop.run_in_executor(reader, self.initialize)
            stream = self.process()
            while (frame := await loop.run_in_executor(reader, next, stream, None)) is not None:
                yield frame
        finally:
            self._wake.set()
            await loop.run_in_executor(reader, self.cleanup)
            reader.shutdown()

    def _connect_again(self, lost: Decoder, reason: str, cause: Exception | None) -> None:
        """Open it again, after a wait. Raises NodeError if it does not come back."""
        self._failed = self._failed + 1 if lost.last_s is None else 0
        self._lost += 1
        for attempt in range(self._failed, self.reconnects):
            wait_s = self.reconnect_wait_s * min(2**attempt, self._MOST_TIMES_LONGER)
            self.logger.warning("%s: %s; connecting again in %.1f s", self.url, reason, wait_s)
            if self._wake.wait(wait_s):
                raise NodeError(self.name, f"closed while connecting to {self.url!r} again")
            if lost.last_s is not None:
                self._last_s, self._last_at = lost.last_s, lost.last_at
            away = Fraction(monotonic() - self._last_at).limit_denominator(1000)
            try:
                self._decoder = self._opened(start_s=self._last_s + away, count=self._lost)
            except NodeError as still:
                reason, cause = still.reason, still
            else:
                return
        raise NodeError(
            self.name, f"{self.url!r} is lost ({reason}) and did not come back in {self.reconnects} attempts"
        ) from cause

    def _close(self) -> None:
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            decoder.close()
            if decoder.damaged:
                self.logger.warning("%s: %d packets could not be decoded", self.url, decoder.damaged)

    def cleanup(self) -> None:
        """Close it; a wait for the next attempt ends."""
        self._wake.set()
        self._close()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        del state["_wake"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._wake = threading.Event()
