"""Finding out that a pipeline stands still for good. Pure: it is shown boards, and asked now and then.

Where branches meet, the stage that joins them takes all that one input has on one branch before the next branch. What
the later branch has sent by then stays unacknowledged, so it fills that branch's channel, whose sender must wait. If
both branches come from a stage that has more outputs for one input than a channel has tickets, that stage waits as
well, and the first branch waits for it: nobody is at work, and nobody ever will be.
"""

from __future__ import annotations

from collections.abc import Sequence

from remotemedia.workers.board import Board

_LOOKS = 3
"""So often nothing may have changed before it counts: what one look finds idle may be about to be woken."""


class Standstill:
    """Looks at the boards of all stages of a pool."""

    def __init__(self, boards: Sequence[Board], workers: Sequence[Board]) -> None:
        """`workers`: those of the boards that belong to processes of their own, which show that they are alive."""
        self._boards, self._workers = boards, workers
        self._seen: list[tuple[int, bool]] = []
        self._beats: list[int] = []
        """Of the workers, when what was seen was new."""
        self._looks = 0

    def look(self, *, is_starving: bool) -> list[int]:
        """The stages that wait for room, if everything stands still: none is at work, and it was so before.

        `is_starving`: somebody waits for outputs, and all stages are there to make them.
        """
        signs = [(board.stats.progress, board.waits) for board in self._boards]
        at_work = any(board.frame is not None and not board.waits for board in self._boards)
        waiting = [index for index, board in enumerate(self._boards) if board.waits]
        if not is_starving or at_work or not waiting or signs != self._seen:
            self._seen, self._looks = signs, 0
            self._beats = [board.beats for board in self._workers]
            return []
        if any(board.beats == before for board, before in zip(self._workers, self._beats, strict=True)):
            return []  # a worker that is stopped looks idle, and may be what all wait for: see rounds.py
        self._looks += 1
        return waiting if self._looks >= _LOOKS else []
