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

    def __init__(self, boards: Sequence[Board]) -> None:
        self._boards = boards
        self._seen: list[tuple[int, bool]] = []
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
            return []
        self._looks += 1
        return waiting if self._looks >= _LOOKS else []

    @property
    def is_suspected(self) -> bool:
        """Whether the next look may find that everything stands still."""
        return self._looks == _LOOKS - 1
