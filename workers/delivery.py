"""The order in which a stage takes its inputs, and when it may acknowledge them. Pure: no clock, no I/O.

Every frame carries the number of the source frame it was made from, and every sender says which of its frames is the
last for a number (a bare mark, when it has nothing to send). So a stage with several inputs can take, for each number,
all frames of its first input, then all of the second, and so on: the same sequence in every run and in every executor,
whatever the timing.

An input is acknowledged, so that its sender may forget it, only when all outputs that were sent since the stage took it
have been acknowledged by their receivers. So acknowledgement walks backwards from the sink, and whatever set of workers
dies, what they have not finished is still kept by somebody who lives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from remotemedia.ipc.channel import END, LAST
from remotemedia.ipc.lane import Position


class Window:
    """The bound from end to end: inputs that are accepted and whose last output is not taken yet.

    Channels bound themselves, each by its own tickets. This bound over all of them keeps what is under way small enough
    for the processor's cache, and makes the room on the way of branches that meet again a matter of the source alone.
    """

    __slots__ = ("_always", "_frames", "_most_bytes", "_most_frames", "bytes", "frames")

    def __init__(self, *, most_frames: int, most_bytes: int, always: int) -> None:
        """`always`: how many frames are let in whatever their size, so that the processors are all at work; never more
        than `most_frames`.
        """
        self._most_frames, self._most_bytes, self._always = most_frames, most_bytes, min(always, most_frames)
        self.frames = 0
        self.bytes = 0

    def has_room(self) -> bool:
        """Whether another input may be accepted now: its size does not matter, only what is under way already."""
        if self.frames < self._always:
            return True
        return self.frames < self._most_frames and self.bytes < self._most_bytes

    def room(self) -> int:
        """For about how many inputs there is room, of the size of those that are under way; at least one."""
        frames = self._most_frames - self.frames
        if self.bytes:
            frames = min(frames, (self._most_bytes - self.bytes) * self.frames // self.bytes)
        return max(frames, 1)

    def enter(self, nbytes: int) -> None:
        self.frames += 1
        self.bytes += nbytes

    def leave(self, nbytes: int) -> None:
        self.frames -= 1
        self.bytes -= nbytes


class Merge:
    """Whose turn it is among the inputs of one stage."""

    __slots__ = ("_end", "_ended", "_present", "floor", "turn")

    def __init__(self, inputs: int) -> None:
        self._ended = [False] * inputs
        self._end = 0
        self._present: int | None = None
        """The number that is taken from one input after the other; None: at the next, whatever it is."""
        self.turn = 0
        """The input to take the next frame from."""
        self.floor = 0
        """Frames with a lower number are out of the pipeline: they are to be dropped."""

    @classmethod
    def resumed(cls, last: Sequence[Position | None], *, own_sources: bool) -> Merge:
        """Where a stage goes on whose inputs have been finished up to `last`.

        `own_sources`: the pipeline's sources number their frames themselves, and may end after different numbers; else
        all inputs end with the same number.
        """
        merge = cls(len(last))
        newest = max((p.session if own_sources else p.number) for p in last if p) if any(last) else 0
        for index, position in enumerate(last):
            if position and position.flags & END:
                merge._ended[index] = newest == (position.session if own_sources else position.number)
        open_inputs = [i for i, ended in enumerate(merge._ended) if not ended]
        if not open_inputs:
            return cls(len(last))
        merge._end = max((p.number for p, ended in zip(last, merge._ended, strict=True) if p and ended), default=0)
        done = [(p.number, bool(p.flags & LAST)) if p else (-1, True) for p in last]
        # Of inputs that end anywhere, one may just have ended with the present number, ahead of all others.
        present = max(done[i][0] for i in (range(len(done)) if own_sources else open_inputs))
        behind = next((i for i in open_inputs if done[i] < (present, True)), None)
        if behind is None:
            merge.turn = open_inputs[0]
        else:
            # What the input that is behind has before that is out: the predecessor began at the greatest number that
            # any sender had not forgotten, and another sender may know less, and have all of it made again.
            merge.turn, merge._present, merge.floor = behind, present, present
        return merge

    def is_passed_by(self, number: int) -> bool:
        """Whether input `turn`, whose next frame has this number, has passed what is being taken: only after a restart,
        when its sender, other than those of other inputs, has already forgotten what is out of the pipeline. Then all
        inputs go on at that number.
        """
        if self._present is None:
            self._present = self.floor = number
            return False
        if number <= self._present:
            return False
        self.floor = number
        self._present = None
        self._ended = [False] * len(self._ended)
        self._end = self.turn = 0
        return True

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
        self._present = None
        if all(ended):
            end = self._end
            self._ended = [False] * len(ended)
            self._end = self.turn = 0
            return end, flags
        self.turn = ended.index(False)
        return number, flags & ~END


class Unacknowledged:
    """The inputs that a stage has finished with and not acknowledged yet, oldest first."""

    __slots__ = ("finished", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, int, tuple[int, ...]]] = deque()
        self.finished = 0
        """How many inputs have been finished with, ever."""

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, sent: int, lane: int, position: tuple[int, ...]) -> None:
        """An input from `lane` is finished with; `sent`: sequence number of the last output by then; `position`: the
        fields of a Position.
        """
        self.waiting.append((sent, lane, position))
        self.finished += 1

    def due(self, acknowledged: int, covered: int | None = None) -> list[tuple[int, Position]]:
        """Take out what may be acknowledged now: lanes and their last positions, to be acknowledged in this order.

        `acknowledged`: up to which sequence number the outputs have been acknowledged. `covered`: no more inputs than
        the first so many (of `finished`): those that a snapshot of the node's state has seen.

        Who dies in between must leave what a stage that takes its inputs in turn can have finished with: never one lane
        far ahead of another. So a lane comes once for all its inputs without one of another lane between them.
        """
        waiting = self.waiting
        most = len(waiting) if covered is None else covered - (self.finished - len(waiting))
        found: list[tuple[int, tuple[int, ...]]] = []
        while most > 0 and waiting and waiting[0][0] <= acknowledged:
            _, lane, position = waiting.popleft()
            if found and found[-1][0] == lane:
                found[-1] = lane, position
            else:
                found.append((lane, position))
            most -= 1
        return [(lane, Position(*position)) for lane, position in found]
