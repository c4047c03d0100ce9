"""Settings refuse what cannot work, naming the setting, the value and what was expected."""

import dataclasses
import pickle

import pytest

from remotemedia.config import ChannelConfig, PoolConfig, Timeouts, WorkerLimits
from remotemedia.core.exceptions import ConfigurationError

BAD = [
    *((Timeouts, f"{name}_s", value)
      for name in ("hello", "load", "initialize", "stop", "heartbeat", "unresponsive_warn", "unresponsive")
      for value in (0, -1, "3", None, float("nan"), True)),
    *((Timeouts, "frame_timeout_s", value) for value in (0, -1, "3", float("nan"), True)),
    *((Timeouts, "frame_warn_s", value) for value in (0, -1, "3", float("nan"), True)),
    (Timeouts, "heartbeat_s", 1.5),
    (Timeouts, "unresponsive_s", 4.0),
    *((WorkerLimits, "memory_limit_bytes", value) for value in (0, -1, 1.5, "1", True)),
    *((WorkerLimits, "max_frames_per_worker", value) for value in (0, -1, 1.5, "1", True)),
    *((WorkerLimits, "cpu_affinity", value) for value in ((), [0], (-1,), ("0",), (True,), 3)),
    *((WorkerLimits, "nice", value) for value in (-21, 20, 1.5, "1", True)),
    *((WorkerLimits, "environment", value)
      for value in (None, [("A", "b")], {"A": 1}, {"": "b"}, {"A=B": "c"}, {"A": "\0"}, {"A\0": ""}, {1: "a"})),
    *((PoolConfig, "limits", value) for value in (None, 3, {"node": None}, {"node": {"nice": 1}})),
    *(
        (PoolConfig, name, value)
        for name in ("in_flight_frames", "in_flight_bytes")
        for value in (0, -1, 1.5, "8", True)
    ),
    *((ChannelConfig, "queue_frames", value) for value in (1, 0, 257, "8", 8.5, None, True)),
    *((ChannelConfig, "window_bytes", value) for value in (0, -1, "1", 1.5)),
    *((ChannelConfig, "slot_bytes", value) for value in (63, 2**40, "64", 64.5)),
    *((ChannelConfig, "max_frame_bytes", value) for value in (0, "1", 1.5)),
    (PoolConfig, "channel", {"queue_frames": 4}),
    (PoolConfig, "timeouts", None),
    *((PoolConfig, "spin_us", value) for value in (-1, 1001, 0.5, 50.0, "50", None, True)),
    *((PoolConfig, "placement", value) for value in (None, "same-core", "cores", 0, True)),
    *((PoolConfig, "start", value) for value in (None, "fork", "forkserver", True)),
    (PoolConfig, "runtime_dir", 3),
    (PoolConfig, "python_executable", ["python"]),
    (PoolConfig, "ray_address", 6379),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "value"), BAD, ids=lambda part: getattr(part, "__name__", repr(part)))
def test_bad_values_are_named(kind, name, value):
    with pytest.raises(ConfigurationError) as caught:
        kind(**{name: value})
    assert str(caught.value).startswith(f"{name}={value!r}: expected ")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Timeouts, {"hello_s": 1, "load_s": 0.5, "initialize_s": 600, "stop_s": float("inf")}),
        (Timeouts, {"heartbeat_s": 0.05, "unresponsive_warn_s": 0.2, "unresponsive_s": 0.2, "frame_timeout_s": 0.1}),
        (Timeouts, {"unresponsive_s": float("inf"), "frame_timeout_s": None}),
        (WorkerLimits, {"memory_limit_bytes": 1, "cpu_affinity": (0, 7), "nice": -20, "max_frames_per_worker": 1}),
        (WorkerLimits, {"environment": {"A": "", "B": "=x"}}),
        (PoolConfig, {"limits": {"a": WorkerLimits(nice=3), "b": WorkerLimits()}}),
        (ChannelConfig, {"queue_frames": 2, "window_bytes": 1, "slot_bytes": 64, "max_frame_bytes": 64}),
        (ChannelConfig, {"queue_frames": 256}),
        (PoolConfig, {"channel": ChannelConfig(queue_frames=4), "runtime_dir": "/tmp/x"}),
        (PoolConfig, {"start": "spawn", "spin_us": 0, "placement": "free"}),
        (PoolConfig, {"spin_us": 1000, "placement": "same_core"}),
    ],
)
def test_good_values_are_kept(kind, settings):
    config = kind(**settings)
    assert {name: getattr(config, name) for name in settings} == settings


@pytest.mark.parametrize("kind", [Timeouts, ChannelConfig, PoolConfig, WorkerLimits])
def test_settings_are_frozen_keyword_only_values(kind):
    config = kind()
    first = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, first, 1)
    with pytest.raises(TypeError):
        kind(1)
    with pytest.raises(TypeError, match="no_such_setting"):
        kind(no_such_setting=1)
    assert pickle.loads(pickle.dumps(config)) == config == kind()
    assert f"{first}=" in repr(config)
