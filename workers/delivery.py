"""The order in which a stage takes its inputs. Pure: no clock, no I/O.

Every frame carries the number of the source frame it was made from, and every sender says which of its frames is the
last for a number (a bare mark, when it has nothing to send). So a stage with several inputs can take, for each number,
all frames of its first input, then all of the second, and so on: the same sequence in every run and in every executor,
whatever the timing.
"""

from __future__ import annotations

from remotemedia.ipc.channel import END, LAST


class Merge:
    """Whose turn it is among the inputs of one stage."""

    __slots__ = ("_end", "_ended", "turn")

    def __init__(self, inputs: int) -> None:
        self._ended = [False] * inputs
        self._end = 0
        self.turn = 0
        """The input to take the next frame from."""

    def took(self, number: int, flags: int) -> tuple[int, int]:
        """A frame was taken from input `turn`: its (number, flags) as the stage must see them.

        LAST stays only on the frame that completes its number over all inputs, END only when every input has ended
        (inputs may end after different numbers; the merged stream ends after the greatest).
        """
        if not flags & LAST:
            return number, flags
        ended = self._ended
        if flags & END:
            ended[self.turn] = True
            self._end = max(self._end, number)
        following = next((i for i in range(self.turn + 1, len(ended)) if not ended[i]), None)
        if following is not None:
            self.turn = following
            return number, flags & ~(LAST | END)
        if all(ended):
            end = self._end
            self._ended = [False] * len(ended)
            self._end = self.turn = 0
            return end, flags
        self.turn = ended.index(False)
        return number, flags & ~END
