"""The files for deploying a service: gunicorn for real, the others as far as it goes without their programs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import psutil
import pytest
from websockets.sync.client import connect

from remotemedia.config import Timeouts

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
SOUND = np.full(1600, 6000, np.int16).tobytes()

T = TypeVar("T")


def until(condition: Callable[[], T | None], process: subprocess.Popen[str], what: str) -> T:
    """What `condition` gives, as soon as that is true; fails if the process ends before."""
    give_up_at = time.monotonic() + 60
    while not (found := condition()):
        assert process.poll() is None, f"gunicorn has ended, before {what}"
        assert time.monotonic() < give_up_at, f"no {what} after 60 s"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("preload", [False, True])
def test_each_process_of_gunicorn_has_a_pool_and_leaves_nothing(tmp_path: Path, preload: bool) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "BIND": "127.0.0.1:0",
        "WEB_CONCURRENCY": "2",
        "REMOTEMEDIA_RUNTIME_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "gunicorn", "-c", DEPLOY / "gunicorn.conf.py", "service_fastapi:app"]
    command += ["--preload"] * preload
    log = tmp_path / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=stderr, text=True) as gunicorn,
    ):
        try:
            address = until(lambda: listening_at(log), gunicorn, "address in the log")
            pools: dict[int, list[int]] = {}
            until(lambda: ask_for_health(address, pools), gunicorn, "answer of two processes")
            assert httpx.post(f"http://{address}/speech", content=SOUND).json() == {"level_db": -14.7, "speaks": False}
            with connect(f"ws://{address}/speech") as call:
                call.send(SOUND)
                assert json.loads(call.recv()) == {"level_db": -14.7, "speaks": False}
            everybody = psutil.Process(gunicorn.pid).children(recursive=True)
        finally:
            gunicorn.send_signal(signal.SIGTERM)
            status = gunicorn.wait(60)
    assert status == 0, log.read_text()
    assert len({pid for workers in pools.values() for pid in workers}) == 4
    assert set(pools) <= {process.pid for process in everybody}
    assert [process for process in everybody if process.is_running()] == []
    assert "ERROR" not in log.read_text()
    assert [path.name for path in tmp_path.glob("remotemedia-*/*")] == []


def listening_at(log: Path) -> str | None:
    found = re.search(r"Listening at: http://([\d.]+:\d+)", log.read_text())
    return found[1] if found is not None else None


def ask_for_health(address: str, pools: dict[int, list[int]]) -> bool:
    """Notes the pids of the workers, by the process that has answered. Whether both have."""
    response = httpx.get(f"http://{address}/healthz", timeout=30)
    if response.status_code == 200:
        answer: dict[str, Any] = response.json()
        pools[answer["pid"]] = [worker["pid"] for worker in answer["workers"]]
    return len(pools) == 2


# -- systemd -----------------------------------------------------------------------------------------------------------


def unit() -> dict[str, str]:
    """The settings of the unit; lines of one name joined."""
    settings: dict[str, str] = {}
    for line in (DEPLOY / "speech.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            settings[name] = f"{settings[name]} {value}" if name in settings else value
    return settings


def seconds_of_gunicorn(setting: str) -> int:
    found = re.search(rf"^{setting} = (\d+)$", (DEPLOY / "gunicorn.conf.py").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_the_unit_stops_the_service_in_order_and_keeps_it_through_the_death_of_a_worker() -> None:
    settings = unit()
    assert (settings["KillMode"], settings["OOMPolicy"], settings["RemoveIPC"]) == ("mixed", "continue", "no")
    assert int(settings["TimeoutStopSec"]) > seconds_of_gunicorn("graceful_timeout") + Timeouts().stop_s
    assert settings["User"] != "root"
    assert f"REMOTEMEDIA_RUNTIME_DIR=/run/{settings['RuntimeDirectory']}" in settings["Environment"]
    assert settings["PrivateTmp"] == "yes"
    assert int(settings["LimitNOFILE"]) > 1024


def test_the_unit_starts_what_there_is() -> None:
    program, *arguments = unit()["ExecStart"].split()
    assert program.endswith("/gunicorn")
    assert (DEPLOY.parent / arguments[arguments.index("-c") + 1]) == DEPLOY / "gunicorn.conf.py"
    module, _, name = arguments[-1].partition(":")
    assert re.search(rf"^{name} = FastAPI\(", (DEPLOY.parent / f"{module}.py").read_text(), re.MULTILINE)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "speech.service").read_text()
    there = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
    (tmp_path / "speech.service").write_text(there)
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "speech.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "speech.service" in line]
    assert complaints == []


# -- Docker ------------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def test_the_image_runs_as_a_user_under_an_init_with_a_health_check() -> None:
    of_image = dict(instructions()[[name for name, _ in instructions()].index("FROM", 1) :])
    assert of_image["USER"].isdigit()
    assert int(of_image["USER"]) > 0
    assert of_image["ENTRYPOINT"] == '["tini", "--"]'
    assert "/healthz" in of_image["HEALTHCHECK"]
    assert of_image["STOPSIGNAL"] == "SIGTERM"
    names = [name for name, _ in instructions()]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name == "RUN")


def test_all_that_the_image_copies_is_there_and_all_that_the_package_needs_is_copied() -> None:
    copied = [value.split() for name, value in instructions() if name == "COPY" and "--from" not in value]
    sources = [source for *names, _ in copied for source in names]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert {"pyproject.toml", "README.md", "LICENSE", "remotemedia", "workers", "ipc"} <= set(sources)


def test_compose_gives_shared_memory_and_time_to_stop() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    assert (DEPLOY / "../..").resolve() == ROOT
    for line in ("shm_size: 1g", "context: ../..", "dockerfile: examples/deploy/Dockerfile", "cap_drop: [ALL]"):
        assert line in text
    grace = re.search(r"stop_grace_period: (\d+)s", text)
    assert grace is not None
    assert int(grace[1]) > seconds_of_gunicorn("graceful_timeout") + Timeouts().stop_s
