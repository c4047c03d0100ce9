"""Directories that belong to this user alone: where they may lie, how they are checked, how they are locked."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHM_DIR = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lives on Linux
MAX_SOCKET_PATH = 107
DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_NOBODY = 65534  # how an owner outside of our user namespace looks: the host's root, as a rule


def candidate_bases(runtime_dir: str | None = None) -> list[Path]:
    """Directories that may hold the per-user directory, best first; only `runtime_dir` if that is given."""
    if runtime_dir is not None:
        return [Path(runtime_dir)]
    environment = [os.environ.get(name) for name in ("REMOTEMEDIA_RUNTIME_DIR", "XDG_RUNTIME_DIR")]
    others = [f"/run/user/{os.geteuid()}", tempfile.gettempdir(), str(SHM_DIR)]
    return list(dict.fromkeys(Path(base) for base in [*environment, *others] if base))


def user_dir(base: Path) -> Path:
    return base / f"remotemedia-{os.geteuid()}"


def check_base(base: Path, longest_below: str) -> None:
    """Raise OSError unless private directories can lie in `base` safely, and sockets called `longest_below` in them."""
    if not base.is_absolute():
        raise OSError(errno.EINVAL, "not an absolute path")
    if len(os.fsencode(user_dir(base) / longest_below)) > MAX_SOCKET_PATH:
        raise OSError(errno.ENAMETOOLONG, f"a socket below it would have a path of more than {MAX_SOCKET_PATH} bytes")
    found = base.stat()
    if found.st_uid not in {0, os.geteuid(), _NOBODY}:
        raise OSError(errno.EPERM, f"it belongs to user {found.st_uid}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
        raise OSError(errno.EPERM, "others can rename what lies in it (writable for them, no sticky bit)")


@contextmanager
def open_private(path: Path) -> Iterator[int]:
    """A descriptor of the directory `path`, no symbolic link, that must be ours alone; else raises OSError."""
    fd = os.open(path, DIR_FLAGS)
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"it belongs to user {found.st_uid}", str(path))
        if stat.S_IMODE(found.st_mode) != stat.S_IRWXU:
            raise OSError(errno.EPERM, f"its mode is {stat.S_IMODE(found.st_mode):04o}, not 0700", str(path))
        yield fd
    finally:
        os.close(fd)


def try_lock(fd: int, path: Path) -> bool:
    """Lock what `fd` refers to, until its last duplicate is closed; False if another holds it or `path` is not it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), path.lstat())
    except (BlockingIOError, FileNotFoundError):
        return False
