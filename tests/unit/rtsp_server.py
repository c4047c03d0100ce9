"""A server of one RTSP session after the other, over TCP: PCMU sound (RTP payload type 0), 8000 Hz, 20 ms a packet."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

import numpy as np

SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=test
c=IN IP4 127.0.0.1
t=0 0
m=audio 0 RTP/AVP 0
a=control:sound
""".replace("\n", "\r\n")
PACKET = 160


def expanded(codes):
    """int16 samples of µ-law codes, by ITU-T G.711."""
    code = ~np.asarray(codes, np.uint8)
    size = (((code & 0x0F).astype(np.int32) << 3) + 0x84) << ((code & 0x70) >> 4)
    return np.where(code & 0x80, 0x84 - size, size - 0x84).astype(np.int16)


class LocalServer:
    """Listens on a port of its own as long as the block lasts; `_serve` runs in a thread and notes what it opens."""

    def __init__(self, url):
        self._open = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = url.format(port=self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._thread.join()


class RtspServer(LocalServer):
    """Plays each of `clips` (µ-law codes) to one client and then ends the connection; after the last nobody listens."""

    def __init__(self, clips):
        super().__init__("rtsp://127.0.0.1:{port}/live")
        self._clips = clips
        self.methods = []

    def _serve(self):
        for clip in self._clips:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            with contextlib.suppress(OSError):
                self._session(connection, clip)
            if clip is self._clips[-1]:
                self._listener.close()
            connection.close()

    def _session(self, connection, clip):
        stream = connection.makefile("rb")
        while True:
            request = stream.readline().decode()
            if not request:
                return
            headers = dict(iter(lambda: stream.readline().decode().strip().partition(": ")[::2], ("", "")))
            method = request.split()[0]
            self.methods.append(method)
            extra, body = self._answer(method, headers)
            length = f"Content-Length: {len(body)}\r\n" if body else ""
            connection.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {headers['CSeq']}\r\n{extra}{length}\r\n{body}".encode())
            if method == "PLAY":
                for at in range(0, len(clip), PACKET):
                    payload = struct.pack("!BBHII", 0x80, 0, at // PACKET, 8000 + at, 7) + bytes(clip[at : at + PACKET])
                    connection.sendall(struct.pack("!cBH", b"$", 0, len(payload)) + payload)
                return

    @staticmethod
    def _answer(method, headers):
        if method == "OPTIONS":
            return "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""
        if method == "DESCRIBE":
            return "Content-Type: application/sdp\r\n", SDP
        if method == "SETUP":
            return f"Transport: {headers['Transport']}\r\nSession: 12345\r\n", ""
        return "Session: 12345\r\n", ""
