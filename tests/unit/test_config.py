"""Settings refuse what cannot work, naming the setting, the value and what was expected."""

import dataclasses
import pickle

import pytest

from remotemedia.config import ChannelConfig, PoolConfig, Timeouts
from remotemedia.core.exceptions import ConfigurationError

BAD = [
    *((Timeouts, name, value)
      for name in ("hello_s", "load_s", "initialize_s", "stop_s") for value in (0, -1, "3", None, float("nan"), True)),
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
    (PoolConfig, "runtime_dir", 3),
    (PoolConfig, "python_executable", ["python"]),
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
        (ChannelConfig, {"queue_frames": 2, "window_bytes": 1, "slot_bytes": 64, "max_frame_bytes": 64}),
        (ChannelConfig, {"queue_frames": 256}),
        (PoolConfig, {"channel": ChannelConfig(queue_frames=4), "runtime_dir": "/tmp/x"}),
    ],
)
def test_good_values_are_kept(kind, settings):
    config = kind(**settings)
    assert {name: getattr(config, name) for name in settings} == settings


@pytest.mark.parametrize("kind", [Timeouts, ChannelConfig, PoolConfig])
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
