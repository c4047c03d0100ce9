"""StateManager: forgetting by age and number, threads, travelling."""

import copy
import pickle
import subprocess
import sys
import threading

import pytest

from remotemedia.core import state as state_module
from remotemedia.core.exceptions import ConfigurationError
from remotemedia.core.state import StateManager


class FakeClock:
    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    fake = FakeClock()
    monkeypatch.setattr(state_module, "monotonic", fake)
    return fake


def test_get_makes_one_dict_per_session_and_keeps_it():
    manager = StateManager()
    manager.get("a")["count"] = 1
    manager.get("b")
    assert manager.get("a") == {"count": 1}
    assert manager.get("b") is not manager.get("a") is manager.get("a")
    assert list(manager) == ["b", "a"]
    assert len(manager) == 2
    assert "a" in manager
    assert "c" not in manager


def test_looking_makes_no_session():
    manager = StateManager()
    assert "a" not in manager
    assert len(manager) == 0
    assert bool(manager)


def test_drop_and_clear():
    manager = StateManager()
    for session in "abc":
        manager.get(session)
    manager.drop("b")
    manager.drop("never there")
    assert list(manager) == ["a", "c"]
    manager.clear()
    assert list(manager) == []


def test_the_least_recently_used_session_goes_first():
    manager = StateManager(max_sessions=2)
    manager.get("a")
    manager.get("b")
    manager.get("a")
    manager.get("c")
    assert list(manager) == ["a", "c"]


def test_sessions_are_forgotten_by_age_since_their_last_use(clock):
    manager = StateManager(ttl_s=10)
    manager.get("old")["x"] = 1
    clock.now_s += 6
    manager.get("young")
    clock.now_s += 4
    assert list(manager) == ["young"]
    assert manager.get("old") == {}
    clock.now_s += 6
    assert "young" not in manager
    assert "old" in manager


def test_use_renews_and_looking_does_not(clock):
    manager = StateManager(ttl_s=10)
    manager.get("used")
    manager.get("seen")
    clock.now_s += 9
    manager.get("used")
    assert "seen" in manager
    clock.now_s += 1
    assert list(manager) == ["used"]


def test_age_survives_a_move_to_a_process_with_another_clock(clock):
    manager = StateManager(ttl_s=10, max_sessions=5)
    manager.get("old")["x"] = [1]
    clock.now_s += 6
    manager.get("young")
    data = pickle.dumps(manager)
    clock.now_s = 3.0  # another machine, started just now
    moved = pickle.loads(data)
    assert (moved.ttl_s, moved.max_sessions) == (10, 5)
    assert moved.get("young") == {}
    clock.now_s += 3.9
    assert list(moved) == ["old", "young"]
    clock.now_s += 0.1
    assert list(moved) == ["young"]


def test_pickles_into_a_real_process():
    manager = StateManager(ttl_s=3600)
    manager.get("call")["frames"] = 7
    code = (
        "import pickle, sys; m = pickle.load(sys.stdin.buffer);"
        "m.get('new'); print(m.get('call'), len(m), m.ttl_s)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(manager), capture_output=True, check=True)
    assert done.stdout.decode().strip() == "{'frames': 7} 2 3600"


def test_a_copy_has_its_own_sessions():
    manager = StateManager()
    manager.get("a")["x"] = [1]
    other = copy.deepcopy(manager)
    other.get("a")["x"].append(2)
    other.get("b")
    assert manager.get("a") == {"x": [1]}
    assert list(manager) == ["a"]


def test_a_subclass_keeps_its_attributes():
    manager = pickle.loads(pickle.dumps(Counting()))
    manager.get("a")
    assert manager.gets == 1


class Counting(StateManager):
    gets = 0

    def get(self, session_id):
        self.gets += 1
        return super().get(session_id)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("ttl_s", 0), ("ttl_s", -1.0), ("ttl_s", float("nan")), ("ttl_s", "10"), ("ttl_s", True),
     ("max_sessions", 0), ("max_sessions", 1.5), ("max_sessions", "2"), ("max_sessions", True)],
)  # fmt: skip
def test_bad_limits_are_named(setting, value):
    with pytest.raises(ConfigurationError, match=f"{setting}={value!r}: expected"):
        StateManager(**{setting: value})


def test_many_threads_see_one_dict_per_session():
    manager, start = StateManager(max_sessions=50), threading.Barrier(8)
    seen, failures = [set() for _ in range(8)], []

    def use(index):
        start.wait()
        try:
            for i in range(2000):
                state = manager.get(f"s{i % 40}")
                seen[index].add((i % 40, id(state)))
                pickle.dumps(manager) if i % 500 == 0 else list(manager)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(own == seen[0] for own in seen)
    assert len(seen[0]) == 40


def test_repr_tells_limits_and_number():
    manager = StateManager(ttl_s=5, max_sessions=3)
    manager.get("a")
    assert repr(manager) == "StateManager(ttl_s=5, max_sessions=3, sessions=1)"
