"""The board of one worker: the words of the ledger in which it says what it does, and reads whether to stop.

Written without messages or system calls, readable at any time, and still there after the worker was killed.
"""

from __future__ import annotations

from remotemedia.core import stats
from remotemedia.core.stats import NodeStats
from remotemedia.ipc.ledger import Ledger

STOP, FRAME, BEAT, WAITS = 0, 1, 2, 3
"""Words of the board; the frame loop writes them itself. FRAME: the number of the frame being worked on, plus one.
BEAT: counted up by the control thread. WAITS: 1 while the frame being worked on waits for room in the next stage."""
_STATS = 8
BOARD_WORDS = _STATS + stats.SIZE
_WORD_MASK = 2**64 - 1


class Board:
    """A worker's board; the same class on both sides."""

    __slots__ = ("stats", "words")

    def __init__(self, ledger: Ledger, offset: int) -> None:
        self.words = ledger.region(offset, BOARD_WORDS)
        self.stats = NodeStats(self.words[_STATS:])

    @property
    def stop_requested(self) -> bool:
        return self.words[STOP] != 0

    def request_stop(self) -> None:
        self.words[STOP] = 1

    def reset(self) -> None:
        """For the worker's next generation."""
        self.words[STOP] = self.words[FRAME] = 0

    def begin(self, number: int) -> None:
        """The worker starts on the frame with this number."""
        self.words[FRAME] = number + 1

    def end(self) -> None:
        """The worker is between frames."""
        self.words[FRAME] = 0

    def beat(self) -> None:
        """The worker's interpreter runs: called by its control thread, which needs the GIL for it."""
        self.words[BEAT] = (self.words[BEAT] + 1) & _WORD_MASK

    @property
    def beats(self) -> int:
        return int(self.words[BEAT])

    @property
    def waits(self) -> bool:
        """Whether the worker waits for room in the next stage: then its frame takes no time of its own."""
        return self.words[WAITS] != 0

    def forget_waiting(self) -> None:
        """A new process begins; the last one may have died while it waited."""
        self.words[WAITS] = 0

    @property
    def frame(self) -> int | None:
        """Number of the frame the worker is working on, or was when it died."""
        number = self.words[FRAME]
        return number - 1 if number else None
