"""The parts of the status page without a pool: the layout of graphs, the history, the feed, the document."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import socket
import threading
from contextlib import suppress
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia import events, watching
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.ipc.observer_messages import PoolDetails, PoolView
from remotemedia.ipc.observer_server import ObserverServer
from remotemedia.status import feed as feed_module
from remotemedia.status.feed import Feed
from remotemedia.status.layout import layout
from remotemedia.status.page import Page
from remotemedia.status.server import StatusServer
from remotemedia.workers.history import History
from remotemedia.workers.running import OBSERVER_SOCKET, PoolPlace

DEADLINE_S = 30.0

# -- the layout of graphs ----------------------------------------------------------------------------------------------


def test_a_diamond_is_drawn_in_three_columns_around_the_middle():
    places, paths = layout(4, [(0, 1), (0, 2), (1, 3), (2, 3)])
    assert places == [(0, 0.0), (1, -0.5), (1, 0.5), (2, 0.0)]
    assert paths == [[places[a], places[b]] for a, b in [(0, 1), (0, 2), (1, 3), (2, 3)]]


def test_a_long_edge_passes_beside_what_stands_between():
    places, paths = layout(3, [(0, 1), (1, 2), (0, 2)])
    assert [column for column, _ in places] == [0, 1, 2]
    passing = paths[2][1]
    assert passing[0] == 1
    assert passing != places[1]


def test_branches_that_are_written_crosswise_do_not_cross():
    places, _ = layout(6, [(0, 1), (0, 2), (1, 4), (2, 3), (3, 5), (4, 5)])
    assert (places[1][1] < places[2][1]) == (places[4][1] < places[3][1])


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_every_graph_is_drawn_forwards_and_nothing_covers_anything(graph):
    count, pairs = graph
    edges = [(a, b) for a, b in pairs if a < b]
    places, paths = layout(count, edges)
    passed = [place for path in paths for place in path[1:-1]]
    assert len(set(places) | set(passed)) == len(places) + len(passed)
    for (start, end), path in zip(edges, paths, strict=True):
        assert (path[0], path[-1]) == (places[start], places[end])
        assert [column for column, _ in path] == list(range(places[start][0], places[end][0] + 1))


# -- the history -------------------------------------------------------------------------------------------------------


def test_the_history_is_bounded_and_frames_that_fail_do_not_push_out_deaths():
    history = History()
    history.add(events.Started(node="a", pid=1))
    history.add(events.Died(node="a", pid=1, reason="node 'a' was killed. Likely cause: a\nTry: b"))
    history.add(events.Restarted(node="a", pid=2, generation=1))
    for frame in range(1000):
        history.add(events.FrameFailed(node="b", pid=3, frame=frame, reason="ValueError: no"))
    for dropped in range(1000):
        history.add(events.FrameDropped(dropped=dropped + 1, reason="slow"))
    assert [(e.kind, e.text, e.count) for e in history.events()] == [
        ("FrameDropped", "(1000 by now): slow", 1000),
        ("Restarted", "", 1),
        ("Died", "node 'a' was killed", 1),
    ]
    assert [(e.kind, e.text, e.count) for e in history.errors()] == [
        ("FrameFailed", "(frame 999): ValueError: no", 1000),
        ("Died", "node 'a' was killed. Likely cause: a\nTry: b", 1),
    ]
    for number in range(100):
        history.add(events.Died(node="c", pid=number, reason="x" * 10_000))
    assert (len(history.events()), len(history.errors())) == (20, 10)
    assert {len(e.text) for e in history.errors()} == {2000}
    assert {len(e.text) for e in history.events()} == {200}


# -- the feed ----------------------------------------------------------------------------------------------------------


class FakePool:
    """Answers observers, or not."""

    def __init__(self, path):
        self.asked, self.silent, self.waiting = 0, False, []
        self.server = ObserverServer(path / OBSERVER_SOCKET, self.on_request, asyncio.get_running_loop())

    def on_request(self, observer, request):
        self.asked += 1
        if self.silent:
            self.waiting.append((observer, request))
        else:
            self.answer(observer, request)

    def answer(self, observer, request):
        details = PoolDetails(
            kinds=(), edges=(), frames_in=self.asked, frames_out=0, drops=0, error="", events=[], errors=[]
        )
        view = PoolView(
            number=request.number, pool_id="0", pid=1, state="running", package_version="1", uptime_s=1.0, sessions=0,
            workers=[], details=details,
        )  # fmt: skip
        observer.send(view)


@pytest.fixture
async def fake(tmp_path, monkeypatch):
    """(the pool, a feed from it), which has asked once."""
    for module, name in ((feed_module, "SILENT_S"), (watching, "SILENT_S"), (feed_module, "_TICK_S")):
        monkeypatch.setattr(module, name, 0.1)
    pool = FakePool(tmp_path)
    feed = Feed(PoolPlace("0", tmp_path, alive=True))
    feed.start()
    await asyncio.to_thread(feed.fresh)
    yield pool, feed
    await asyncio.to_thread(feed.close)
    feed.close()
    assert feed.after(0) is None
    pool.server.close()


async def test_the_pool_is_asked_once_for_all_and_not_at_all_while_nobody_looks(fake):
    pool, feed = fake

    def look():
        with feed.listening() as version:
            pictures = [feed.after(version)]
            while len(pictures) < 4:
                pictures.append(feed.after(pictures[-1].version))
            return pictures

    looks = await asyncio.gather(*(asyncio.to_thread(look) for _ in range(3)))
    seen = {picture.version: picture.json for pictures in looks for picture in pictures}
    assert all(seen[picture.version] == picture.json for pictures in looks for picture in pictures)
    assert len(seen) < 3 * 4
    assert feed._timeout(0.0) is None  # it sleeps until somebody comes
    asked = pool.asked
    assert json.loads((await asyncio.to_thread(feed.fresh)).json)["frames_in"] == pool.asked == asked + 1


async def test_a_pool_that_is_silent_is_complained_about_until_it_answers(fake):
    pool, feed = fake
    pool.silent = True
    for _ in range(2):
        picture = await asyncio.to_thread(feed.fresh)
        assert "the event loop of its process is blocked" in picture.complaints[0]
        assert "blocked" in json.loads(picture.json)["problem"]
    assert len(pool.waiting) == 1
    pool.silent = False
    pool.answer(*pool.waiting[0])
    later = await asyncio.to_thread(feed.after, picture.version)
    while later.complaints:
        later = await asyncio.to_thread(feed.after, later.version)
    assert json.loads(later.json)["problem"] == ""


async def test_a_pool_that_ends_is_complained_about(fake):
    pool, feed = fake
    pool.server.close()
    assert (await asyncio.to_thread(feed.fresh)).complaints == ["pool 0: the pool has ended"]
    assert (await asyncio.to_thread(feed.fresh)).complaints == ["pool 0: the pool has ended"]


async def test_a_feed_that_breaks_lets_nobody_wait(fake, monkeypatch, caplog):
    _, feed = fake
    monkeypatch.setattr(feed, "_receive", lambda client: 1 / 0)
    await asyncio.to_thread(feed.fresh)
    assert await asyncio.to_thread(feed.after, 0) is None
    assert "ZeroDivisionError" in caplog.text


# -- the document, and who may ask for it ------------------------------------------------------------------------------


def test_the_document_is_whole_and_only_its_own_program_may_run():
    page = Page.load(files("remotemedia.status"))
    document = page.html.decode()
    policy = page.headers["Content-Security-Policy"]
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", document, re.DOTALL)
        assert len(content) > 1000
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"(src|href)=\"(https?:)?//", document)  # nothing comes from elsewhere
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in document


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:80", True), ("localhost:8080", True), ("LOCALHOST", True), ("[::1]:80", True), ("10.1.2.3", True),
        ("status.example.org", True), ("evil.example", False), ("localhost.evil.example", False), ("", False),
        (None, False), ("127.0.0.1.evil.example:80", False), ("[evil.example]", False),
    ],
)  # fmt: skip
def test_only_names_of_this_machine_are_answered(host, allowed, tmp_path):
    server = StatusServer(PoolPlace("0", tmp_path, alive=True), allowed_hosts=["status.Example.org"])
    assert server.may_ask(host) is allowed
    server.close()


def test_an_address_to_type_whatever_it_listens_on(tmp_path):
    place = PoolPlace("0", tmp_path, alive=True)
    for host, shown in [("0.0.0.0", "127.0.0.1"), ("localhost", "localhost")]:
        server = StatusServer(place, host=host)
        assert server.url == f"http://{shown}:{server.port}/"
        server.close()
    with pytest.raises(ConfigurationError, match="expected a list of names"):
        StatusServer(place, allowed_hosts="example.org")


@pytest.mark.parametrize("whose", ["the feed's", "the listener's", "a request's"])
def test_it_can_be_closed_in_a_thread_of_its_own(whose, tmp_path, monkeypatch):
    """Where the garbage collector may have found the pool, with anything locked."""
    server = StatusServer(PoolPlace("0", tmp_path, alive=True))

    asked = []

    def close(*_):
        if not asked:
            with server._feed._news, server._web._guard:
                asked.append(server.close())

    place = {"the feed's": (server._feed, "_act"), "the listener's": (server._web, "_accept"),
             "a request's": (server, "may_ask")}[whose]  # fmt: skip
    monkeypatch.setattr(*place, close)
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as peer:
        peer.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        with suppress(ConnectionError):
            while peer.recv(1000):
                pass
    for thread in threading.enumerate():
        if thread.name.startswith("remotemedia-"):
            thread.join(DEADLINE_S)
    assert server._web._closed
