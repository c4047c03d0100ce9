"""Benchmarks: `python -m benchmarks` measures the product beside its peers and the floors of the machine.

One file per question (`QUESTION` in it: what is measured, what is shown, which targets hold), one adapter per
contestant in `peers/`. Every contestant runs in a driver process of its own (`driver`, commanded by `driver_process`);
in each round all of them are measured, in changing order (`bench.Bench.race`). Every output is checked
(`work.FrameSource`).
"""
