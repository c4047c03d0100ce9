"""The small HTTP server: bounded, nobody waits for a slow one, everything ends with it."""

from __future__ import annotations

import logging
import socket
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack

import pytest

from remotemedia import web
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.web import MOST_CONNECTIONS, Request, WebServer

DEADLINE_S = 30.0


@pytest.fixture
def serve():
    """Starts a server that answers by a function of the test; gives its port."""
    with ExitStack() as stack:

        def start(respond):
            server = WebServer("127.0.0.1", 0, respond, what="a test")
            stack.callback(server.close)
            server.start()
            return server

        yield start


def get(port, path="/", method="GET"):
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def connect(port, data=b""):
    peer = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
    peer.sendall(data)
    return peer


def hello(request: Request) -> None:
    request.answer(200, "text/plain", f"hello {request.route}".encode())


def test_requests_are_answered_and_nothing_is_changed(serve):
    server = serve(hello)
    assert get(server.port, "/a?b=c") == (200, b"hello /a")
    assert get(server.port, method="HEAD") == (200, b"")
    assert get(server.port, method="POST")[0] == 501
    with connect(server.port, b"nonsense\r\n\r\n") as peer:
        assert b"400" in peer.recv(1000)


def test_a_browser_that_does_not_read_is_left_and_nobody_waits_for_it(serve, monkeypatch):
    monkeypatch.setattr(Request, "timeout", 0.3)
    left = threading.Event()

    def respond(request: Request) -> None:
        if request.route != "/endless":
            hello(request)
            return
        try:
            while True:
                request.wfile.write(b"x" * 65_536)
        except TimeoutError:
            left.set()
            raise

    server = serve(respond)
    with connect(server.port, b"GET /endless HTTP/1.0\r\n\r\n"):
        assert get(server.port) == (200, b"hello /")
        assert left.wait(DEADLINE_S)


def test_there_are_so_many_connections_at_once_and_no_more(serve):
    server = serve(hello)
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(server.port)) for _ in range(MOST_CONNECTIONS)]
        with connect(server.port) as one_more:
            answer = one_more.recv(1000)
            assert answer.startswith(b"HTTP/1.0 503")
            assert b"Retry-After" in answer
        idle[0].sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"hello" in b"".join(iter(lambda: idle[0].recv(1000), b""))
        server.close()
        assert [peer.recv(1) for peer in idle] == [b""] * MOST_CONNECTIONS
    server.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "remotemedia-web"]


def test_an_answer_that_fails_is_logged_and_the_next_is_given(serve, caplog):
    def respond(request: Request) -> None:
        if request.route == "/bad":
            raise KeyError("on purpose")
        hello(request)

    server = serve(respond)
    with caplog.at_level(logging.ERROR, "remotemedia.web"):
        with connect(server.port, b"GET /bad HTTP/1.0\r\n\r\n") as peer:
            assert peer.recv(1) == b""
        assert "on purpose" in caplog.text
    assert get(server.port) == (200, b"hello /")


class _Exhausted:
    """A listener that finds no free descriptor the first time."""

    def __init__(self, listener):
        self._listener, self.refused = listener, 0

    def accept(self):
        if not self.refused:
            self.refused += 1
            raise OSError(24, "Too many open files")
        return self._listener.accept()

    def __getattr__(self, name):
        return getattr(self._listener, name)


def test_without_a_free_descriptor_a_request_waits(serve, monkeypatch, caplog):
    monkeypatch.setattr(web, "_AGAIN_S", 0.05)
    server = WebServer("127.0.0.1", 0, hello, what="a test")
    server._listener = listener = _Exhausted(server._listener)
    server.start()
    assert get(server.port) == (200, b"hello /")
    assert listener.refused == 1
    assert "a request for a test has to wait" in caplog.text
    server.close()


def test_a_port_that_cannot_be_had_is_named_with_what_to_do(serve):
    server = serve(hello)
    for host, port, told in [
        ("127.0.0.1", server.port, f"a test on 127.0.0.1:{server.port}: Address already in use; choose another port"),
        ("127.0.0.1", 70_000, "a test on port 70000: expected 0 (any that is free) to 65535"),
        ("127.0.0.1", "80", "a test on port '80': expected 0"),
        ("no host.invalid", 0, "a test on no host.invalid:0: there is no such host; 127.0.0.1 is this machine"),
    ]:
        with pytest.raises(ConfigurationError) as caught:
            WebServer(host, port, hello, what="a test")
        assert told in str(caught.value)
