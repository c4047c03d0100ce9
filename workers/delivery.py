"""The order in which a stage takes its inputs. Pure: no clock, no I/O.

Every frame carries the number of the source frame it was made from, and every sender says which of its frames is the
last for a number (a bare mark, when it has nothing to send). So a stage with several inputs can take, for each number,
all frames of its first input, then all of the second, and so on: the same sequence in every run and in every executor,
whatever the timing.
"""

from __future__ import annotations

from remotemedia.ipc.channel import END, LAST


class Window:
    """The bound from end to end: inputs that are accepted and whose last output is not taken yet.

    Channels bound themselves, each by its own tickets. This bound over all of them keeps what is under way small enough
    for the processor's cache, and makes the room on the way of branches that meet again a matter of the source alone.
    """

    __slots__ = ("_always", "_frames", "_most_bytes", "_most_frames", "bytes", "frames")

    def __init__(self, *, most_frames: int, most_bytes: int, always: int) -> None:
        """`always`: how many frames are let in whatever their size, so that the processors are all at work."""
        self._most_frames, self._most_bytes, self._always = most_frames, most_bytes, always
        self.frames = 0
        self.bytes = 0

    def has_room(self, nbytes: int) -> bool:
        """Whether an input of `nbytes` may be accepted now."""
        if self.frames < self._always:
            return True
        return self.frames < self._most_frames and self.bytes + nbytes <= self._most_bytes

    def enter(self, nbytes: int) -> None:
        self.frames += 1
        self.bytes += nbytes

    def leave(self, nbytes: int) -> None:
        self.frames -= 1
        self.bytes -= nbytes


class Merge:
    """Whose turn it is among the inputs of one stage."""

    __slots__ = ("_end", "_ended", "turn")

    def __init__(self, inputs: int) -> None:
        self._ended = [False] * inputs
        self._end = 0
        self.turn = 0
        """The input to take the next frame from."""

    def later(self) -> list[int]:
        """The inputs whose turn for the present number is still to come, in order."""
        return [i for i in range(self.turn + 1, len(self._ended)) if not self._ended[i]]

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
        following = next(iter(self.later()), None)
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
