"""Measuring calls of a node's `process`, only where metrics were asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from time import perf_counter_ns
from typing import Any

from remotemedia.core.calling import SPECIAL_RESULTS, outputs_of
from remotemedia.core.stats import ERRORS, NodeStats


def metered(call: Callable[..., Any], stats: NodeStats, *, per_output: bool = False) -> Callable[..., Any]:
    """`call`, recording each call's duration; a generator counts as one call, with `per_output` as one per output."""

    def timed(*args: Any) -> Any:
        started = perf_counter_ns()
        try:
            result = call(*args)
        except BaseException:
            stats.values[ERRORS] += 1
            raise
        spent = perf_counter_ns() - started
        if result.__class__ in SPECIAL_RESULTS:
            return _metered_outputs(result, stats, spent, per_output)
        stats.record(spent)
        return result

    return timed


async def _metered_outputs(result: Any, stats: NodeStats, spent: int, per_output: bool) -> AsyncGenerator[Any, None]:
    """The outputs in `result`, counting the time inside the node and not the time its consumer takes."""
    try:
        async with aclosing(outputs_of(result)) as outputs:
            started = perf_counter_ns()
            async for output in outputs:
                spent += perf_counter_ns() - started
                if per_output:
                    stats.record(spent)
                    spent = 0
                yield output
                started = perf_counter_ns()
            spent += perf_counter_ns() - started
    except Exception:
        stats.values[ERRORS] += 1
        raise
    finally:
        if not per_output:
            stats.record(spent)
