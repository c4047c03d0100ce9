"""What was sent from island to island, and is kept until nobody can need it any more. Pure: no clock, no I/O, no Ray.

A *piece* is one output of an island (or one input of the pipeline), or a bare mark. Its key, the number of the source
frame and the index among the producer's outputs for it, is the same whoever makes it. So when an island dies, its next
generation gets its inputs again, and of what it makes again the pieces that are there already are dropped.

A piece is kept until its number is out of the pipeline and no island is still at work on that number: whatever set of
islands dies, what they have not finished can be made again from what is kept. The caller's process, which holds all
this, is the one that cannot be lost; what pieces carry may well be lost (it lies in the memory of the host that made
it): then it is made again, too.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from remotemedia.core.exceptions import PipelineError
from remotemedia.executors.ray.islands import COLLECT, FEED
from remotemedia.ipc.channel import END, FAILED, LAST
from remotemedia.workers.delivery import Merge

_MARK_INDEX = 1 << 60
"""Index of a bare mark: behind all outputs of its number."""


class _Lost:
    def __repr__(self) -> str:
        return "LOST"


LOST = _Lost()
"""Content that was there and has to be made again."""


class Piece:
    """One output of a producer. `content` is opaque; of a bare mark None, of a failure the error."""

    __slots__ = ("content", "flags", "index", "number", "producer")

    def __init__(self, producer: int, number: int, index: int, flags: int, content: Any) -> None:
        self.producer, self.number, self.index = producer, number, index
        self.flags, self.content = flags, content


class _Log:
    """What one producer has sent, in order."""

    def __init__(self, producer: int) -> None:
        self._producer = producer
        self.pieces: deque[Piece] = deque()
        self.start = 0
        """How many pieces have been forgotten."""
        self._newest = (-1, _MARK_INDEX)
        """Key of the last piece."""
        self._by_key: dict[tuple[int, int], Piece] = {}
        self.is_over = False

    def add(self, number: int, index: int, content: Any) -> None:
        """An output. One that was here before is dropped, unless its content was lost meanwhile."""
        if self.is_over or (number, index) <= self._newest:
            piece = self._by_key.get((number, index))
            if piece is not None and piece.content is LOST:
                piece.content = content
            return
        self._append(Piece(self._producer, number, index, 0, content))

    def complete(self, number: int, flags: int) -> None:
        """All outputs for this number are there. Raises PipelineError if one of those that were lost is not."""
        if self.is_over or (number, _MARK_INDEX) <= self._newest:
            if any(piece.content is LOST for (other, _), piece in self._by_key.items() if other == number):
                raise PipelineError(
                    f"an output for frame {number} was lost with its host, and was not made again: the nodes that were "
                    "started again there gave fewer outputs for the same input than before. Let them give the same "
                    "outputs for the same input, or run without restarts (RestartPolicy.never())"
                )
            return
        self._append(Piece(self._producer, number, _MARK_INDEX, flags, None))
        self.is_over = bool(flags & END)

    def fail(self, number: int, error: Any) -> None:
        """There is nothing more, because of an error."""
        if not self.is_over:
            self._append(Piece(self._producer, number, _MARK_INDEX, FAILED, error))
            self.is_over = True

    def _append(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self._newest = piece.number, piece.index
        self._by_key[self._newest] = piece

    def at(self, cursor: int) -> Piece | None:
        return self.pieces[cursor - self.start] if cursor - self.start < len(self.pieces) else None

    def forget(self, floor: int, read: int) -> None:
        """Numbers below `floor` are not needed, as far as everybody has read them."""
        while self.pieces and self.start < read and self.pieces[0].number < floor:
            piece = self.pieces.popleft()
            del self._by_key[piece.number, piece.index]
            self.start += 1

    @property
    def next_number(self) -> int:
        """The number after the last one that something was made for."""
        return self._newest[0] + 1

    def lose(self, can_be_lost: Callable[[Any], bool]) -> None:
        for piece in self.pieces:
            if piece.index != _MARK_INDEX and piece.content is not LOST and can_be_lost(piece.content):
                piece.content = LOST


class Entry:
    """One input of a consumer, in the order of its connections. `position`: the how-manieth that has content."""

    __slots__ = ("flags", "given", "number", "piece", "position")

    def __init__(self, number: int, flags: int, piece: Piece, position: int) -> None:
        self.number, self.flags, self.piece, self.position = number, flags, piece, position
        self.given: Any = None
        """The content that the consumer was given."""

    @property
    def has_content(self) -> bool:
        return self.piece.index != _MARK_INDEX


class _Inputs:
    """What one consumer takes: the logs of its producers as one sequence."""

    def __init__(self, logs: Sequence[_Log]) -> None:
        self._logs = logs
        self.cursors = [0] * len(logs)
        self._merge = Merge(len(logs))
        self.entries: deque[Entry] = deque()
        self.start = 0
        self.next_position = 0
        self.sent = self.reached = 0
        """Counting all entries ever: the first that is not given yet, and the first that is not finished with."""
        self.epoch = 0
        """Of the deliveries to one generation: begins anew with each that has to be repeated."""
        self.output: tuple[int, int] = (-1, 0)
        """The number that the consumer makes outputs for, and how many it has made."""

    def pull(self) -> None:
        """Take what the producers have sent, in the order of remotemedia.workers.delivery."""
        merge = self._merge
        while True:
            turn = merge.turn
            piece = self._logs[turn].at(self.cursors[turn])
            if piece is None:
                return
            self.cursors[turn] += 1
            number, flags = piece.number, piece.flags
            if not flags & FAILED:
                number, flags = merge.took(number, flags)
            entry = Entry(number, flags, piece, self.next_position)
            self.next_position += entry.has_content
            self.entries.append(entry)

    def at(self, index: int) -> Entry | None:
        return self.entries[index - self.start] if index - self.start < len(self.entries) else None

    @property
    def present(self) -> Entry | None:
        """The first that is not finished with."""
        return self.at(self.reached)

    def forget(self, floor: int) -> None:
        while self.start < min(self.reached, self.sent) and self.entries and self.entries[0].number < floor:
            self.entries.popleft()
            self.start += 1


class Delivery(NamedTuple):
    """What an island is to be given: contents for the positions from `position` on, and then the end of the stream."""

    epoch: int
    position: int
    contents: list[Any]
    is_end: bool


class Relay:
    """All that is between the islands of one stream, and between them and the caller."""

    def __init__(self, producers: Sequence[tuple[int, ...]], results: tuple[int, ...]) -> None:
        """`producers`: for each island, and `results`: for the results, whose pieces are taken, see Layout."""
        self._logs = {index: _Log(index) for index in (FEED, *range(len(producers)))}
        self._inputs = {
            index: _Inputs([self._logs[producer] for producer in taken])
            for index, taken in [*enumerate(producers), (COLLECT, results)]
        }
        self._sources = [index for index, taken in enumerate(producers) if not taken]
        self._fed = 0
        self._floor = 0
        self.completed = 0
        """Everything with a lower number is out of the pipeline."""
        self.is_finished = False

    # -- the inputs of the pipeline ------------------------------------------------------------------------------------

    def feed(self, content: Any) -> int:
        """The next input; its number."""
        number, self._fed = self._fed, self._fed + 1
        self._logs[FEED].add(number, 0, content)
        self._logs[FEED].complete(number, LAST)
        return number

    def feed_end(self) -> None:
        """There is no further input."""
        self._logs[FEED].complete(self._fed, LAST | END)

    # -- to the islands ------------------------------------------------------------------------------------------------

    def base(self, island: int) -> int:
        """The position that the present generation begins with."""
        inputs = self._inputs[island]
        return inputs.entries[0].position if inputs.entries else inputs.next_position

    def next_delivery(self, island: int) -> Delivery | None:
        """What can be given to this island now, which counts as given from now on."""
        inputs = self._inputs[island]
        if island in self._sources:
            return None
        inputs.pull()
        self._pass_marks(island)
        contents: list[Any] = []
        first, is_end = inputs.next_position, False
        while (entry := inputs.at(inputs.sent)) is not None and not is_end:
            content = entry.piece.content
            if content is LOST or entry.flags & FAILED:
                break
            if entry.has_content:
                first = min(first, entry.position)
                contents.append(content)
                entry.given = content
            elif entry.flags & END:
                is_end = True
                first = min(first, entry.position)
            inputs.sent += 1
        return Delivery(inputs.epoch, first, contents, is_end) if contents or is_end else None

    # -- what the islands say ------------------------------------------------------------------------------------------

    def output(self, island: int, position: int, content: Any) -> None:
        """An island has made an output of its input at `position` (at the end: of none)."""
        inputs = self._inputs[island]
        number = self._number(island, position)
        count = inputs.output[1] if inputs.output[0] == number else 0
        inputs.output = number, count + 1
        self._logs[island].add(number, count, content)

    def done(self, island: int, position: int) -> None:
        """It has made all outputs of that input."""
        if island in self._sources:
            self._inputs[island].next_position = position + 1
            self._logs[island].complete(position, LAST)
            return
        entry = self._entry(island, position)
        self._inputs[island].reached += 1
        if entry.flags & LAST:
            self._logs[island].complete(entry.number, LAST)
        self._pass_marks(island)
        self._forget()

    def ended(self, island: int) -> None:
        """It has made all outputs of all inputs, and the last ones."""
        if island in self._sources:
            self._logs[island].complete(self._inputs[island].next_position, LAST | END)
            return
        entry = self._inputs[island].present
        assert entry is not None
        self._inputs[island].reached += 1
        self._logs[island].complete(entry.number, LAST | END)

    def failed(self, island: int, error: Any) -> None:
        """It makes nothing more."""
        self._logs[island].fail(self.present(island), error)

    def present(self, island: int) -> int:
        """The number that an island works on, or will when there is something."""
        inputs = self._inputs[island]
        if island in self._sources:
            return inputs.next_position
        entry = inputs.present
        return entry.number if entry is not None else self._logs[island].next_number

    def lost(self, island: int, position: int, epoch: int) -> int | None:
        """An island could not get what it was given for `position`, nor anything behind that. Returns whose memory that
        was, if that island still counts as alive.
        """
        inputs = self._inputs[island]
        if epoch != inputs.epoch:
            return None
        inputs.epoch += 1
        while inputs.sent > inputs.start:
            inputs.sent -= 1
            entry = inputs.at(inputs.sent)
            if entry is not None and entry.has_content and entry.position == position:
                return _gone(entry)
        raise AssertionError(f"island {island} was never given an input {position}")

    def died(self, island: int, can_be_lost: Callable[[Any], bool]) -> None:
        """An island has died, and of its outputs those with it that `can_be_lost` says. Its next generation begins at
        `base`.
        """
        self._logs[island].lose(can_be_lost)
        inputs = self._inputs[island]
        inputs.sent = inputs.reached = inputs.start
        inputs.epoch = 0
        inputs.output = (-1, 0)
        if island in self._sources:
            inputs.next_position = 0
        self._pass_marks(island)

    # -- the results ---------------------------------------------------------------------------------------------------

    def next_result(self) -> Entry | None:
        """The next result, if it is there: its content, or with the flag FAILED the error that is the last one."""
        inputs = self._inputs[COLLECT]
        inputs.pull()
        while (entry := inputs.present) is not None:
            if entry.flags & FAILED:
                return entry
            if entry.has_content:
                return None if entry.piece.content is LOST else entry
            inputs.reached += 1
            inputs.sent = inputs.reached
            self.is_finished = self.is_finished or bool(entry.flags & END)
            if entry.flags & LAST:
                self.completed = entry.number + 1
                self._forget()
        return None

    def take_result(self) -> None:
        """The caller has `next_result`."""
        inputs = self._inputs[COLLECT]
        inputs.reached += 1
        inputs.sent = inputs.reached

    def lost_result(self, entry: Entry, content: Any) -> int | None:
        """`content` of the next result could not be had; returns what `lost` does."""
        entry.given = content
        return _gone(entry)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _number(self, island: int, position: int) -> int:
        return position if island in self._sources else self._entry(island, position).number

    def _entry(self, island: int, position: int) -> Entry:
        entry = self._inputs[island].present
        assert entry is not None
        assert entry.position == position, f"island {island} is at {entry.position}, not at {position}"
        return entry

    def _pass_marks(self, island: int) -> None:
        """Bare marks take their turn, and have to be passed on, like what was made of the inputs before them."""
        inputs, log = self._inputs[island], self._logs[island]
        while (entry := inputs.present) is not None and not entry.has_content and not entry.flags & END:
            if entry.flags & FAILED:
                log.fail(entry.number, entry.piece.content)
                return
            if entry.flags & LAST:
                log.complete(entry.number, LAST)
            inputs.reached += 1
            inputs.sent = max(inputs.sent, inputs.reached)

    def _forget(self) -> None:
        islands = [index for index in self._inputs if index >= 0 and index not in self._sources]
        at_work = [entry.number for index in islands if (entry := self._inputs[index].present) is not None]
        floor = min([self.completed, *at_work])
        if floor <= self._floor:
            return
        self._floor = floor
        for inputs in self._inputs.values():
            inputs.forget(floor)
        for log in self._logs.values():
            readers = itertools.chain.from_iterable(
                zip(inputs._logs, inputs.cursors, strict=True) for inputs in self._inputs.values()
            )
            log.forget(floor, min((cursor for other, cursor in readers if other is log), default=0))


def _gone(entry: Entry) -> int | None:
    """The content that was given cannot be had any more: whose it was, unless that is known already."""
    piece = entry.piece
    if piece.content is not entry.given:
        return None
    piece.content = LOST
    return piece.producer
