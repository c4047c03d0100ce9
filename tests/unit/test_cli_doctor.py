"""The doctor's findings, from made-up facts and on this machine."""

from __future__ import annotations

import json
import resource
from itertools import pairwise

import pytest

from remotemedia.cli import checks, container, main

MIB = 2**20


@pytest.mark.parametrize(
    ("size", "free", "writable", "status", "word"),
    [
        (8 * 2**30, 8 * 2**30, True, "ok", "8.6 GB"),
        (64 * MIB, 64 * MIB, True, "warn", "--shm-size"),
        (8 * 2**30, 100 * MIB, True, "warn", "remotemedia clean"),
        (64 * MIB, 1 * MIB, True, "fail", "remotemedia clean"),
        (8 * 2**30, 8 * 2**30, False, "fail", "chmod 1777"),
    ],
)
def test_shared_memory(size, free, writable, status, word):
    check = checks.check_shared_memory(size, free, writable=writable)
    assert check.status == status
    assert word in check.text + check.remedy


@pytest.mark.parametrize(
    ("version", "system", "status"),
    [((3, 11), "Linux", "ok"), ((3, 10), "Linux", "fail"), ((3, 13), "Darwin", "fail"), ((3, 12), "Windows", "fail")],
)
def test_python_and_platform(version, system, status):
    assert checks.check_python(version, system, "x86_64").status == status


def test_a_library_that_does_not_load_is_named_with_its_error():
    def load(module):
        if module == "iceoryx2":
            raise ImportError("libgcc_s.so.1: cannot open shared object file")

    broken, extras = checks.check_libraries({"rich": "15", "shtab": "1"}, load)
    assert (broken.status, broken.text.partition(":")[0]) == ("fail", "iceoryx2")
    assert "libgcc_s" in broken.text
    assert broken.remedy == "pip install --force-reinstall iceoryx2"
    assert "media" in extras.text
    assert "cli" not in extras.text


@pytest.mark.parametrize(
    ("files", "processes", "statuses"),
    [
        (20_000, resource.RLIM_INFINITY, ["ok", "ok", "ok"]),
        (256, 100, ["warn", "warn", "ok"]),
        (64, 4000, ["fail", "ok", "ok"]),
        (resource.RLIM_INFINITY, 4000, ["ok", "ok", "ok"]),
    ],
)
def test_limits(monkeypatch, files, processes, statuses):
    monkeypatch.setattr(checks.os, "geteuid", lambda: 1000)
    limits = {resource.RLIMIT_NOFILE: (files, 4096), resource.RLIMIT_NPROC: (processes, processes)}
    found = list(checks.check_limits(lambda which: limits.get(which, (65_536, 65_536))))
    assert [check.status for check in found] == statuses
    assert all(check.remedy for check in found if check.status != "ok")


def test_system_calls_that_are_missing_or_forbidden():
    def forbidden():
        raise PermissionError(1, "Operation not permitted")

    def missing():
        raise OSError(38, "Function not implemented")

    assert checks.check_kernel("pidfd", lambda: None, "x").status == "ok"
    assert "seccomp" in checks.check_kernel("pidfd", forbidden, "x").remedy
    assert checks.check_kernel("pidfd", missing, "Linux 5.3").remedy == "needs Linux 5.3"


def test_leftovers_and_processors():
    assert checks.check_leftovers(0, 0).status == "ok"
    assert checks.check_leftovers(2, 5_000_000).remedy == "remotemedia clean"
    assert "5.0 MB" in checks.check_leftovers(2, 5_000_000).text
    assert checks.check_processors(1, 8).status == "warn"
    assert checks.check_processors(4, 8).text == "4 of 8 usable"


@pytest.mark.parametrize(
    ("inside", "first", "own_pid", "status"),
    [
        (False, "systemd", 77, "ok"),
        (False, "bash", 77, "ok"),
        (True, "tini", 77, "ok"),
        (True, "docker-init", 77, "ok"),
        (True, "python", 77, "warn"),
        (True, "python", 1, "warn"),
    ],
)
def test_process_1_in_a_container(inside, first, own_pid, status):
    _, found, _, remedy = container.check_init(inside=inside, first=first, own_pid=own_pid)
    assert found == status
    assert ("--init" in remedy) is (status == "warn")


def test_limits_of_control_groups():
    assert container.check_memory(None, None)[1] == "ok"
    assert container.check_memory(4 * 2**30, 2**30)[1] == "ok"
    assert container.check_memory(256 * MIB, 0)[1] == "warn"
    assert container.check_memory(4 * 2**30, 4 * 2**30 - 1)[1] == "warn"
    assert container.check_pids(100, 90)[1] == "warn"
    assert container.check_pids(None, 90)[1] == "ok"
    assert container.check_quota("max 100000", 8)[2] == "none"
    assert container.check_quota("150000 100000", 8)[1:3] == ("warn", "1.5 processors of 8")
    assert container.check_quota("800000 100000", 8)[1] == "ok"
    assert container.check_quota("", 8)[1] == "ok"


def test_the_control_group_is_found_inside_and_outside_of_a_container(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "pids.max").write_text("max")
    assert container.cgroup_folder("0::/app\n", tmp_path) == tmp_path / "app"
    assert container.cgroup_folder("0::/host/path\n", tmp_path / "app") == tmp_path / "app"
    assert container.cgroup_folder("12:memory:/app\n", tmp_path) is None


def test_this_machine(capsys, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    code = main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    statuses = [line.split()[0] for line in lines if not line.startswith(" ")][:-1]
    assert set(statuses) <= {"ok", "warn", "fail"}
    assert code == (3 if "fail" in statuses else 0)
    assert lines[-1] == ", ".join(f"{statuses.count(status)} {status}" for status in ("ok", "warn", "fail"))
    for line, following in pairwise(lines):
        if line.startswith(("warn", "fail")):
            assert following.strip().startswith("→ "), f"no remedy after: {line}"
    main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [check["status"] for check in found] == statuses
    assert {"remotemedia", "libraries", "shared memory", "leftovers", "ulimit -n", "pidfd", "memfd", "process 1"} <= {
        check["name"] for check in found
    }


def test_a_failure_is_exit_code_3_and_colours_can_be_forced(capsys, monkeypatch):
    failing = checks.Check("shared memory", "fail", "64 KB", "enlarge it")
    monkeypatch.setattr(checks, "all_checks", lambda: [failing])
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["doctor"]) == 3
    assert "\x1b[31mfail\x1b[0m" in capsys.readouterr().out
