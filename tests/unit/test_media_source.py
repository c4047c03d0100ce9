"""Sources and sinks for any URL: devices, network streams, containers; what is wrong is said clearly."""

from __future__ import annotations

import contextlib
import pickle
import socket
import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from remotemedia import run_pipeline
from remotemedia.core.exceptions import ConfigurationError, NodeError, NodeProcessError
from remotemedia.core.frames import AudioFrame, VideoFrame
from remotemedia.nodes import MediaFileSink, MediaFileSource, MediaSink, MediaSource, get_node_class
from remotemedia.testing.sources import colour_bars, make_clip, sine
from tests.unit.rtsp_server import LocalServer, RtspServer, expanded

pytestmark = pytest.mark.media

CAMERA = "testsrc2=size=64x48:rate=25:duration=0.4"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(path, seconds=1, width=64, height=48, fps=25, noise=0)
    return path


@pytest.fixture(scope="module")
def transport_stream(clip):
    path = clip.with_suffix(".ts")
    sink = MediaSink(path, format="mpegts", streams=("video", "audio"), video_codec="libx264")
    run_pipeline([MediaFileSource(clip), sink])
    return path.read_bytes()


def read(node):
    node.initialize()
    try:
        return list(node.process())
    finally:
        node.cleanup()


class Sender(LocalServer):
    """Sends each of `parts` to one client; the connection then ends, or stays open and silent."""

    def __init__(self, *parts, leave_open=False):
        super().__init__("tcp://127.0.0.1:{port}")
        self._parts, self._leave_open = parts, leave_open

    def _serve(self):
        for part in self._parts:
            try:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                connection.sendall(part)
            except OSError:
                return
            if part is self._parts[-1]:
                self._listener.close()
            if not self._leave_open:
                connection.close()


# -- what can be read ------------------------------------------------------------------------------------------------


def test_a_device_gives_pictures_with_its_times():
    frames = read(MediaSource(CAMERA, format="lavfi"))
    assert [f.time_s for f in frames] == pytest.approx([n / 25 for n in range(10)])
    assert {(f.array.shape, f.metadata["frame_rate"]) for f in frames} == {((48, 64, 3), 25)}
    planar = read(MediaSource(CAMERA, format="lavfi", pixel_format="yuv420p"))
    assert [plane.shape for plane in planar[0].planes] == [(48, 64), (24, 32), (24, 32)]
    assert planar[0].metadata["colour_space"] == "bt601"


def test_a_network_stream_is_what_was_sent(clip, transport_stream):
    with Sender(transport_stream) as sender:
        found = read(MediaSource(sender.url, format="mpegts"))
    made = read(MediaFileSource(clip))
    pictures, expected = ([f for f in frames if isinstance(f, VideoFrame)] for frames in (found, made))
    assert len(pictures) == len(expected) == 25
    start = pictures[0].time_s
    assert [f.time_s - start for f in pictures] == pytest.approx([f.time_s for f in expected], abs=1e-3)
    error = np.mean((np.stack([f.array for f in pictures]) - np.stack([f.array for f in expected]).astype(float)) ** 2)
    assert 10 * np.log10(255**2 / error) > 30


def test_a_lost_connection_is_made_again_and_the_time_goes_on(transport_stream):
    cut = transport_stream[: len(transport_stream) // 2]
    with Sender(cut, transport_stream) as sender:
        source = MediaSource(sender.url, format="mpegts", audio=False, reconnects=1, reconnect_wait_s=0.01)
        source.initialize()
        frames, stream = [], source.process()
        with pytest.raises(NodeError, match=r"is lost \(.*\) and did not come back in 1 attempts"):
            frames.extend(stream)  # keeps what came before the error
        source.cleanup()
    first = [f for f in frames if "reconnects" not in f.metadata]
    second = [f for f in frames if f.metadata.get("reconnects") == 1]
    assert 0 < len(first) < 25
    assert len(second) == 25
    times = [f.time_s for f in frames]
    assert times == sorted(times)
    assert second[0].time_s - first[-1].time_s >= 0.01


def test_silence_is_an_error_after_the_timeout(transport_stream):
    with Sender(transport_stream, leave_open=True) as sender:
        source = MediaSource(sender.url, format="mpegts", timeout_s=0.3)
        source.initialize()
        with pytest.raises(NodeError, match=r"nothing came for 0\.3 s \(timeout_s\)"):
            list(source.process())
        source.cleanup()
    with Sender(b"", leave_open=True) as sender, pytest.raises(NodeError, match=r"no answer within 0\.3 s"):
        MediaSource(sender.url, format="mpegts", timeout_s=0.3).initialize()


def test_rtsp_gives_every_sample_and_connects_again():
    codes = [np.random.default_rng(n).integers(0, 256, 8000, dtype=np.uint8) for n in range(2)]
    with RtspServer(codes) as server:
        source = MediaSource(
            server.url, options={"rtsp_transport": "tcp"}, reconnects=1, reconnect_wait_s=0.01, timeout_s=20
        )
        source.initialize()
        frames = []
        with pytest.raises(NodeError, match="is lost"):
            frames.extend(source.process())
        source.cleanup()
    assert server.methods[:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
    for count, code in enumerate(codes):
        part = [f for f in frames if f.metadata.get("reconnects", 0) == count]
        assert {(f.sample_rate, f.channels) for f in part} == {(8000, 1)}
        samples = np.concatenate([f.array for f in part])[:, 0]
        assert np.array_equal(np.rint(samples * 32768).astype(np.int16), expanded(code))
        start = part[0].time_s
        assert [f.time_s - start for f in part[:3]] == pytest.approx([0, 0.02, 0.04])


def test_damage_is_an_error_in_a_file_and_left_out_of_a_live_stream(tmp_path, caplog):
    path = tmp_path / "sound.mka"
    run_pipeline([MediaFileSink(path, audio_codec="aac")], sine(440, seconds=1))
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux() if packet.size]
    data, middle = path.read_bytes(), packets[len(packets) // 2]
    assert data.count(middle) == 1
    path.write_bytes(damaged := data.replace(middle, b"\xff" * len(middle)))
    with pytest.raises(NodeError, match="cannot decode"):
        read(MediaFileSource(path))
    with Sender(damaged) as sender:
        frames = read(MediaSource(sender.url, format="matroska"))
    assert len(packets) - 2 <= len(frames) < len(packets)
    assert "1 packets could not be decoded" in caplog.text


async def test_a_live_source_is_read_by_a_thread_and_can_be_left(transport_stream):
    source = MediaSource(CAMERA, format="lavfi")
    assert len([frame async for frame in source.live()]) == 10
    endless = MediaSource("testsrc2=size=64x48:rate=100,realtime", format="lavfi")
    async with contextlib.aclosing(endless.live()) as frames:
        times = [(await anext(frames)).time_s for _ in range(3)]
    assert times == pytest.approx([0, 0.01, 0.02])
    with pytest.raises(NodeError, match="No such file"):
        await anext(MediaSource("missing.mp4").live())


# -- what can be written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "gray", "bgra"])
def test_a_lossless_file_gives_back_every_value(tmp_path, pixel_format):
    made = read(MediaSource(CAMERA, format="lavfi", pixel_format=pixel_format))
    path = tmp_path / "lossless.mkv"
    summary = run_pipeline([MediaFileSink(path, video_codec="ffv1", pixel_format=pixel_format)], made)[0]
    assert (summary.frames, summary.seconds) == (10, 0.4)
    found = read(MediaFileSource(path, pixel_format=pixel_format))
    assert len(found) == len(made)
    for one, other in zip(made, found, strict=True):
        assert np.array_equal(one.array, other.array)
        assert one.time_s == other.time_s


def test_a_codec_that_knows_only_constant_rates_takes_any_time_base(clip, tmp_path):
    path = tmp_path / "old.mpg"
    assert run_pipeline([MediaFileSource(clip), MediaFileSink(path, video_codec="mpeg2video")]).frames == 25
    times = [f.time_s for f in read(MediaSource(path, audio=False))]
    assert [time - times[0] for time in times] == pytest.approx([n / 25 for n in range(25)], abs=1e-3)


def test_a_sink_sends_over_the_network():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        received = []

        def receive():
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                received.append(stream.read())

        thread = threading.Thread(target=receive)
        thread.start()
        url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        sink = MediaSink(url, format="wav", audio_codec="pcm_s16le", streams=("audio",), timeout_s=10)
        summary = run_pipeline([sink], sine(440, channels=2, seconds=0.5))[0]
        thread.join()
    assert (summary.samples, summary.bytes) == (24000, 24000 * 4)
    sound = np.concatenate([f.array for f in sine(440, channels=2, seconds=0.5)])
    data = np.frombuffer(received[0][-24000 * 4 :], "<i2").reshape(-1, 2)
    assert np.abs(data - sound * 32768).max() <= 1


# -- settings and errors ---------------------------------------------------------------------------------------------


def without_decoder(path, clip):
    """A Matroska file whose picture codec no FFmpeg knows."""
    run_pipeline([MediaFileSource(clip), MediaFileSink(path, audio_codec="pcm_s16le", streams=("video", "audio"))])
    data = path.read_bytes()
    name = b"V_MPEG4/ISO/AVC"
    assert data.count(name) == 1
    path.write_bytes(data.replace(name, b"V_NOTHING/KNOWN"))
    return path


def test_a_codec_that_is_not_in_this_build(clip, tmp_path):
    path = without_decoder(tmp_path / "strange.mkv", clip)
    with pytest.raises(NodeError, match=r"no decoder for video stream \d of .*strange.mkv'; leave it out \(video=F"):
        MediaSource(path).initialize()
    assert {type(f) for f in read(MediaSource(path, video=False))} == {AudioFrame}


@pytest.mark.parametrize(
    ("url", "options", "part"),
    [
        ("missing.mp4", {}, "cannot open 'missing.mp4': No such file"),
        ("/dev/video77", {"format": "v4l2"}, "No such file or directory; cameras here: "),
        ("x", {"format": "nothing"}, "format='nothing': this FFmpeg has no such format or device"),
        ("nothing://x", {}, "this FFmpeg has no protocol 'nothing'"),
        ("rtsp://127.0.0.1:1/x", {}, "Connection refused"),
        ("testsrc3=1", {"format": "lavfi"}, "cannot open 'testsrc3=1'"),
        (CAMERA, {"format": "lavfi", "video_stream": 2}, "has no video stream number 2"),
        (CAMERA, {"format": "lavfi", "video": False}, r"has no audio stream \(it has: video\)"),
    ],
)
def test_what_cannot_be_opened_says_why(url, options, part):
    node = MediaSource(url, name="camera", **options)
    with pytest.raises(NodeError, match=part) as caught:
        node.initialize()
    assert caught.value.node == "camera"
    node.cleanup()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"reconnects": 3}, "is no network stream and no device"),
        ({"reconnects": -1}, "0 or more"),
        ({"timeout_s": 0}, "seconds, more than 0, or None"),
        ({"reconnect_wait_s": None}, "reconnect_wait_s=None\\): expected seconds, more than 0"),
        ({"video": False, "audio": False}, "at least one"),
        ({"pixel_format": "rgb"}, "did you mean"),
    ],
)
def test_bad_settings(options, part):
    with pytest.raises(ConfigurationError, match=part):
        MediaSource("clip.mp4", **options)


def test_a_sink_that_cannot_connect_says_so():
    sink = MediaSink("tcp://127.0.0.1:1", format="mpegts", timeout_s=5)
    with pytest.raises(NodeProcessError, match=r"cannot write to 'tcp://127\.0\.0\.1:1': .*Connection refused"):
        run_pipeline([sink], colour_bars(64, 48, seconds=0.1))


def test_sources_and_sinks_can_be_named_in_a_manifest_and_travel():
    source = MediaSource("rtsp://camera/1", options={"rtsp_transport": "tcp"}, reconnects=5, name="door")
    entry = source.to_manifest()
    again = get_node_class(entry["node_type"])(name=entry["id"], **entry["params"])
    assert again.to_manifest() == pickle.loads(pickle.dumps(source)).to_manifest() == entry
    sink = MediaSink("out.ts", format="mpegts", options={"mpegts_flags": "resend_headers"}, frame_rate=Fraction(25))
    entry = sink.to_manifest()
    assert get_node_class("MediaSink")(name=entry["id"], **entry["params"]).to_manifest() == entry
