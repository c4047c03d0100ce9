"""The places of a pool: chosen safely, removed wholly, and swept when their owner was killed."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest

from remotemedia.core.exceptions import ConfigurationError
from remotemedia.testing.leaks import Snapshot, assert_no_leaks
from remotemedia.workers import private_dir, rundir
from remotemedia.workers import sweep as sweeping
from remotemedia.workers.private_dir import SHM_DIR, candidate_bases, user_dir
from remotemedia.workers.rundir import PoolDir, SweepReport, sweep

MADE_UP = "0123456789"
"""The id of a pool that there never was."""


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short, private base directory. Sweeps in this process see its pools alone: tests that run beside may have
    killed some of theirs.
    """
    path = Path(tempfile.mkdtemp(prefix="rt-"))
    all_markers = sweeping.markers

    def is_ours(marker: Path) -> bool:
        with suppress(OSError):
            return marker.read_text().startswith(str(path))
        return False

    def our_markers() -> list[tuple[Path, str]]:
        return [(marker, pool_id) for marker, pool_id in all_markers() if pool_id == MADE_UP or is_ours(marker)]

    monkeypatch.setattr(sweeping, "markers", our_markers)
    yield path
    assert not user_dir(path).exists(), "the per-user directory was left behind"
    shutil.rmtree(path)


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


def shm_entries(prefix: str) -> list[str]:
    return sorted(path.name for path in SHM_DIR.glob(f"{prefix}*"))


# -- one pool ----------------------------------------------------------------------------------------------------------


def test_a_pool_gets_private_places_and_leaves_none(base: Path) -> None:
    with PoolDir.create(str(base)) as pool:
        assert pool.path.parent == base / f"remotemedia-{os.geteuid()}"
        assert [mode(pool.path.parent), mode(pool.path), mode(pool.iox_root)] == [0o700, 0o700, 0o700]
        assert len(os.fsencode(pool.socket_path)) <= 107
        assert len(os.fsencode(pool.iox_root)) <= 68
        assert pool.shm_prefix == f"rm_{pool.path.name}_"
        assert str(pool.iox_root) == f"/dev/shm/{pool.shm_prefix}iox"
        assert mode(SHM_DIR / f"{pool.shm_prefix}pool") == 0o600
        pool.socket_path.touch()
        (SHM_DIR / f"{pool.shm_prefix}segment").write_bytes(bytes(100))
        (pool.iox_root / "services").mkdir()
        (pool.iox_root / "services" / "one").touch()
    assert shm_entries(pool.shm_prefix) == []
    assert list(base.iterdir()) == []
    pool.close()


def test_pools_of_one_process_do_not_disturb_each_other(base: Path) -> None:
    first, second = PoolDir.create(str(base)), PoolDir.create(str(base))
    assert first.path != second.path
    first.close()
    assert sweep(str(base)) == SweepReport()
    assert second.path.is_dir()
    assert second.iox_root.is_dir()
    second.close()


def test_a_restrictive_umask_is_no_obstacle(base: Path) -> None:
    before = os.umask(0o077)
    try:
        with PoolDir.create(str(base)) as pool:
            assert mode(pool.path) == 0o700
    finally:
        os.umask(before)


def test_links_out_of_the_pools_places_are_not_followed(base: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").touch()
    with PoolDir.create(str(base)) as pool:
        (pool.path / "link").symlink_to(precious)
        (pool.iox_root / "link").symlink_to(precious)
        (SHM_DIR / f"{pool.shm_prefix}link").symlink_to(precious)
    assert (precious / "data").exists()
    assert shm_entries(pool.shm_prefix) == []


# -- choosing the place ------------------------------------------------------------------------------------------------


def test_candidates_come_in_order_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMOTEMEDIA_RUNTIME_DIR", "/mine")
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
    monkeypatch.setattr(tempfile, "tempdir", "/mytmp")
    expected = ["/mine", f"/run/user/{os.geteuid()}", "/mytmp", "/dev/shm"]
    assert [str(path) for path in candidate_bases()] == expected
    monkeypatch.delenv("REMOTEMEDIA_RUNTIME_DIR")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert [str(path) for path in candidate_bases()] == expected[1:]
    assert candidate_bases("/given") == [Path("/given")]


def test_an_unusable_candidate_is_passed_over(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMOTEMEDIA_RUNTIME_DIR", "/nonexistent")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    with PoolDir.create() as pool:
        assert pool.path.is_relative_to(base)


def refusal(runtime_dir: Path | str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        PoolDir.create(str(runtime_dir))
    return str(caught.value)


def test_each_candidates_refusal_is_told(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = base / "file"
    file.touch()
    monkeypatch.setattr(
        rundir, "candidate_bases", lambda _: [Path("/nonexistent"), Path("relative"), file, base / ("x" * 90)]
    )
    text = refusal("")
    assert "/nonexistent: ENOENT" in text
    assert "relative: EINVAL, not an absolute path" in text
    assert f"{file}: ENOTDIR" in text
    assert "ENAMETOOLONG" in text
    assert "REMOTEMEDIA_RUNTIME_DIR" in text


def test_a_base_in_which_others_can_rename_is_refused(base: Path) -> None:
    base.chmod(0o777)
    assert "no sticky bit" in refusal(base)
    base.chmod(0o1777)
    PoolDir.create(str(base)).close()


def test_a_symbolic_link_in_place_of_the_user_directory_is_refused(base: Path, tmp_path: Path) -> None:
    user_dir(base).symlink_to(tmp_path)
    assert refusal(base)
    assert list(tmp_path.iterdir()) == []
    user_dir(base).unlink()


def test_a_user_directory_open_to_others_is_refused(base: Path) -> None:
    user_dir(base).mkdir()
    user_dir(base).chmod(0o755)
    assert "EPERM" in refusal(base)
    assert "its mode is 0755, not 0700" in refusal(base)
    assert sweep(str(base)) == SweepReport()
    user_dir(base).rmdir()


@pytest.mark.root
def test_a_user_directory_or_base_of_somebody_else_is_refused(base: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes directories of another user")
    user_dir(base).mkdir(mode=0o700)
    os.chown(user_dir(base), 12_345, 12_345)
    assert "belongs to user 12345" in refusal(base)
    user_dir(base).rmdir()
    os.chown(base, 12_345, 12_345)
    assert "belongs to user 12345" in refusal(base)


@pytest.mark.root
def test_a_base_that_cannot_be_written_is_refused(base: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: changes to another user")
    base.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        os.setresgid(12_345, 12_345, 12_345)
        os.setresuid(12_345, 12_345, 12_345)
        os._exit(0 if f"{base}: EACCES" in refusal(base) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_no_shared_memory_is_told(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (private_dir, rundir, sweeping):
        monkeypatch.setattr(module, "SHM_DIR", Path("/nonexistent-shm"))
    text = refusal(base)
    assert "ENOENT, /nonexistent-shm/rm_" in text
    assert "is writable" in text


def test_a_failure_half_way_leaves_nothing(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.mkdir

    def mkdir(self: Path, **options: int) -> None:
        if self.parent == SHM_DIR:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert "ENOSPC" in refusal(base)
    assert not user_dir(base).exists()


def test_creators_and_closers_may_race(base: Path) -> None:
    problems: list[BaseException] = []

    def churn() -> None:
        try:
            for _ in range(40):
                pool = PoolDir.create(str(base))
                sweep(str(base))
                assert pool.path.is_dir()
                assert pool.iox_root.is_dir()
                pool.close()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


# -- sweeping after a death --------------------------------------------------------------------------------------------


def start(code: str, base: Path) -> subprocess.Popen[str]:
    """A process that runs `code` and is killed later; `code` prints a line when it is ready."""
    head = """
        import os, signal, subprocess, sys, time
        from remotemedia.workers import rundir
        from remotemedia.workers.rundir import PoolDir, sweep
        base = sys.argv[1]
    """
    program = textwrap.dedent(head) + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", program, str(base)], stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


FILL = """
    pool = PoolDir.create(base)
    open(f"/dev/shm/{pool.shm_prefix}data", "wb").write(bytes(1 << 20))
    (pool.iox_root / "node").touch()
    print(pool.path, flush=True)
    time.sleep(1000)
"""


def test_what_a_killed_coordinator_left_is_removed(base: Path) -> None:
    process = start(FILL, base)
    path = Path(line_of(process))
    assert sweep(str(base)) == SweepReport()
    assert path.is_dir()
    kill(process)
    report = sweep(str(base))
    assert (report.pools, report.files) == (1, 2)
    assert report.bytes >= 1 << 20
    assert not path.exists()
    assert shm_entries(f"rm_{path.name}_") == []
    assert sweep(str(base)) == SweepReport()


def test_the_marker_alone_leads_to_the_leftovers(base: Path) -> None:
    process = start(FILL, base)
    path = Path(line_of(process))
    kill(process)
    assert sweep("/nonexistent").pools == 1  # a pool whose base directory this sweep does not know
    assert not path.exists()

    process = start(FILL, base)
    path = Path(line_of(process))
    kill(process)
    shutil.rmtree(path.parent)  # a container's /tmp is gone, /dev/shm is the host's
    assert sweep(str(base)).files == 2
    assert shm_entries(f"rm_{path.name}_") == []


def test_a_marker_cannot_lead_anywhere_else(base: Path, tmp_path: Path) -> None:
    for content in (str(tmp_path), "", "\0", "/", "relative"):
        marker = SHM_DIR / f"rm_{MADE_UP}_pool"
        marker.write_text(content)
        sweep(str(base))
        assert not marker.exists()
        assert tmp_path.is_dir()


def test_what_does_not_look_like_a_pool_is_not_touched(base: Path) -> None:
    user_dir(base).mkdir(mode=0o700)
    odd = [user_dir(base) / name for name in ("notes", "0123456789abc", "ABCDEF0123")]
    for path in odd:
        path.mkdir()
    assert sweep(str(base)) == SweepReport()
    assert all(path.is_dir() for path in odd)
    shutil.rmtree(user_dir(base))


def create_until_line(count: int, base: Path) -> int:
    """Create a pool in a forked copy that kills itself before the `count`-th line of our code; gives how it ended."""
    ours = {rundir.__file__, private_dir.__file__}
    left = count

    def trace(frame: FrameType, event: str, argument: object) -> Callable[..., object] | None:
        nonlocal left
        if frame.f_code.co_filename not in ours:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    pid = os.fork()
    if pid == 0:
        sys.settrace(trace)
        pool = PoolDir.create(str(base))
        sys.settrace(None)
        pool.close()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.slow
def test_a_coordinator_killed_anywhere_while_it_creates_leaves_nothing_for_long(base: Path) -> None:
    count = 1
    leftovers = 0
    before = Snapshot.take()
    while create_until_line(count, base) == -signal.SIGKILL:
        leftovers += sweep(str(base)).pools
        assert not user_dir(base).exists()
        assert_no_leaks(before)
        count += 1
    assert count > 40
    assert leftovers > 20


WITH_WORKER = """
    pool = PoolDir.create(base)
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)"
    worker = subprocess.Popen([sys.executable, "-c", stubborn], process_group=0, stdout=subprocess.PIPE)
    worker.stdout.readline()
    pool.record_worker(worker.pid)
    print(worker.pid, flush=True)
    time.sleep(1000)
"""


def test_workers_of_a_dead_pool_are_killed(base: Path) -> None:
    process = start(WITH_WORKER, base)
    worker = os.pidfd_open(int(line_of(process)))
    kill(process)
    assert sweep(str(base)).pools == 1
    ended, _, _ = select.select([worker], [], [], 0)
    os.close(worker)
    assert ended


def test_a_pool_whose_worker_cannot_be_killed_is_kept(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(WITH_WORKER, base)
    pid = int(line_of(process))
    kill(process)
    with monkeypatch.context() as patch:
        patch.setattr(sweeping, "KILL_WAIT_S", 0.0)
        patch.setattr(sweeping.signal, "pidfd_send_signal", lambda *_: None)
        patch.setattr(sweeping.os, "killpg", lambda *_: None)
        assert sweep(str(base)) == SweepReport()
    assert user_dir(base).is_dir()
    os.kill(pid, 0)
    assert sweep(str(base)).pools == 1


def test_a_process_that_only_has_the_number_of_a_worker_is_spared(base: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, process_group=0)
    path = user_dir(base) / MADE_UP
    path.mkdir(mode=0o700, parents=True)
    user_dir(base).chmod(0o700)
    start_time, _, where = sweeping.process_identity(bystander.pid).partition("-")
    (path / f"worker-{bystander.pid}-{int(start_time) - 1}-{where}").touch()
    (path / f"worker-{bystander.pid}-{start_time}-00000000_1").touch()
    (path / "worker-junk").touch()
    assert sweep(str(base)).pools == 1
    assert bystander.poll() is None
    bystander.communicate(b"\n")
    assert bystander.returncode == 0


def test_workers_are_recorded_and_forgotten(base: Path) -> None:
    with PoolDir.create(str(base)) as pool:
        pool.record_worker(os.getpid())
        assert len(list(pool.path.glob(f"worker-{os.getpid()}-*"))) == 1
        pool.forget_worker(os.getpid())
        pool.record_worker(2**22 + 1)  # no such process
        assert list(pool.path.iterdir()) == []


def test_a_forked_copy_neither_removes_nor_keeps_the_pool_alive(base: Path) -> None:
    process = start(
        """
        pool = PoolDir.create(base)
        if os.fork() == 0:
            pool.close()
            print("copy", os.getpid(), flush=True)
            time.sleep(1000)
        time.sleep(1000)
        """,
        base,
    )
    _, copy = line_of(process).split()
    assert len(list(user_dir(base).iterdir())) == 1
    kill(process)
    try:
        assert sweep(str(base)).pools == 1
    finally:
        os.kill(int(copy), signal.SIGKILL)
