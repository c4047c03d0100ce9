"""Entry point of a worker: `python -P <this file> <descriptor of the boot data>`.

Run by path and before anything of the project can be imported: the sys.path of the coordinator is in the boot data. The
process is a worker from the beginning, or becomes one by forking (fork_server.py) or when it is told to (spare.py).
"""

import marshal
import mmap
import os
import sys
from typing import Any


def inherited(fd: int) -> memoryview:
    """The content of an inherited memfd; closes the descriptor."""
    data = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))
    os.close(fd)
    return data


def main() -> int:
    """Read the boot data, then start for real."""
    boot = marshal.loads(inherited(int(sys.argv[1])))  # noqa: S302 - our own, sealed
    sys.path[:] = boot["sys_path"]
    if "control_fd" in boot:
        from remotemedia.workers.child.fork_server import serve

        boot = serve(boot["control_fd"], boot["parent_pid"])
        sys.path[:] = boot["sys_path"]
    return work(boot)


def work(boot: dict[str, Any]) -> int:
    """Be the worker that the boot data describe."""
    from remotemedia.workers.child.parent_watch import arm

    arm(boot["parent_pid"])
    worker = boot.get("worker")
    if worker is None:
        from remotemedia.workers.child.spare import orders

        worker = orders(boot["orders_fd"])
        if worker is None:
            return 0
    from remotemedia.workers.child.own_limits import apply

    problem = apply(worker["nice"], worker["cpu_affinity"])
    from remotemedia.workers.child.worker import run  # numerical libraries look at the affinity when they are imported

    return run(worker, inherited(worker["payload_fd"]), problem)


if __name__ == "__main__":
    sys.exit(main())
