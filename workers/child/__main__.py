"""Entry point of a worker: `python -P <this file> <descriptor of the boot data>`.

Run by path and before anything of the project can be imported: the sys.path of the coordinator is in the boot data.
"""

import marshal
import mmap
import os
import sys


def inherited(fd: int) -> memoryview:
    """The content of an inherited memfd; closes the descriptor."""
    data = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))
    os.close(fd)
    return data


def main() -> int:
    """Read the boot data, then start for real."""
    boot = marshal.loads(inherited(int(sys.argv[1])))  # noqa: S302 - our own, sealed
    sys.path[:] = boot["sys_path"]
    if "orders_fd" in boot:
        from remotemedia.workers.child.spare import orders

        boot = orders(boot)
        if boot is None:
            return 0

    from remotemedia.workers.child.own_limits import apply

    problem = apply(boot["nice"], boot["cpu_affinity"])
    from remotemedia.workers.child.worker import run  # numerical libraries look at the affinity when they are imported

    return run(boot, inherited(boot["payload_fd"]), problem)


if __name__ == "__main__":
    sys.exit(main())
