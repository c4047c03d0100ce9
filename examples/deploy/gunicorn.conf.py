"""Several processes behind one port, each with a pool of its own:

    pip install gunicorn uvicorn-worker && gunicorn -c examples/deploy/gunicorn.conf.py service_fastapi:app

The pool is started by the application's lifespan, which runs in each process after the fork. A pool that is started
while the application is imported would belong to the process that forks, with `preload_app`, and to no other.
"""

import os
from pathlib import Path

chdir = str(Path(__file__).parents[1])  # where service_fastapi.py lies
bind = os.environ.get("BIND", "127.0.0.1:8000")
# One process is one event loop, which hands frames on. The work is done by the workers of its pool: as many processes
# as you have event loops to fill, not as you have processors.
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "uvicorn_worker.UvicornWorker"
worker_tmp_dir = "/dev/shm"  # noqa: S108 - for its heartbeat; a disk that is slow would look like a hang
# A process that has blocked its event loop for this long is killed. Its pool's workers end by themselves, and the next
# pool removes what they leave in shared memory.
timeout = 60
# From SIGTERM until what is under way must be done. Longer than what the pool itself may take: Timeouts(stop_s=10).
graceful_timeout = 30
max_requests = 0  # to renew leaking workers is the pool's own business: WorkerLimits(max_frames_per_worker=...)
