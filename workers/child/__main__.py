"""Entry point of a worker: `python -P <this file> <descriptor of the boot data>`.

Run by path and before anything of the project can be imported: the sys.path of the coordinator is in the boot data.
"""

import marshal
import mmap
import os
import sys


def main() -> int:
    """Read the boot data, then start for real."""
    fd = int(sys.argv[1])
    data = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))
    os.close(fd)
    length = int.from_bytes(data[:8], "little")
    boot = marshal.loads(data[8 : 8 + length])  # noqa: S302 - our own, sealed
    sys.path[:] = boot["sys_path"]

    from remotemedia.workers.child.own_limits import apply

    problem = apply(boot["nice"], boot["cpu_affinity"])
    from remotemedia.workers.child.worker import run  # numerical libraries look at the affinity when they are imported

    return run(boot, data[8 + length :], problem)


if __name__ == "__main__":
    sys.exit(main())
