"""The stacks in a worker's stderr are told from its own lines; those that were asked for are kept apart."""

from __future__ import annotations

import asyncio

import pytest

from remotemedia.workers.written_stacks import AskedStacks, split_stacks


def test_stacks_are_told_from_what_was_printed() -> None:
    text = "\n".join(f"line {n}" for n in range(30)) + "\nFatal Python error: Segmentation fault\n\nCurrent thread 0x1"
    printed, stacks = split_stacks(text)
    assert printed.splitlines() == [f"line {n}" for n in range(10, 30)]
    assert stacks.startswith("Fatal Python error")
    assert split_stacks("only this") == ("only this", "")


def dump(line: int) -> str:
    return (
        "Thread 0x0a (most recent call first):\n"
        f'  File "poll.py", line {line} in poll\n'
        "\n"
        "Current thread 0x0b (most recent call first):\n"
        f'  File "node.py", line {line} in process\n'
        "  ...\n"
    )


@pytest.mark.parametrize("between", ["", "in between\n", "\n\n"])
def test_the_last_stacks_are_the_ones_that_count(between: str) -> None:
    printed, stacks = split_stacks(f"before\n{dump(1)}{between}{dump(2)}after\n")
    assert stacks == dump(2).rstrip()
    assert printed.split() == ["before", *between.split(), "after"]


def test_a_crash_after_stacks_that_were_asked_for() -> None:
    crash = (
        "Fatal Python error: Segmentation fault\n\nCurrent thread 0x0b (most recent call first):\n  File y\n\n"
        "Extension modules: numpy (total: 1)\n"
    )
    printed, stacks = split_stacks(dump(1) + crash)
    assert (printed, stacks) == ("", crash.rstrip())


def test_lines_that_look_a_little_like_stacks_are_the_workers_own() -> None:
    text = "  File not found\nExtension modules: none\n  ... and so on\n"
    assert split_stacks(text) == (text.rstrip("\n"), "")


def lines_of(text: str) -> list[str]:
    """As OutputReader gives them: without the empty ones."""
    return [line for line in text.splitlines() if line]


class Scene:
    """Stacks that are asked for, and how often their end was told."""

    def __init__(self) -> None:
        self.ends: asyncio.Queue[None] = asyncio.Queue()
        self.asked = AskedStacks(asyncio.get_running_loop(), lambda: self.ends.put_nowait(None))

    def own(self, text: str) -> list[str]:
        """The lines that are left for the log."""
        return [line for line in lines_of(text) if not self.asked.take(line)]


async def test_stacks_that_were_asked_for_are_taken_whenever_they_come() -> None:
    scene = Scene()
    scene.asked.ask(tell=True)
    assert scene.own(f"before\n{dump(1)}between\n{dump(2)}after\n") == ["before", "between", "after"]
    await asyncio.wait_for(scene.ends.get(), 30)
    assert scene.own(dump(3)) == lines_of(dump(3))  # the node's own: nobody has asked for these
    assert scene.ends.empty()


async def test_who_asks_again_before_the_end_gets_both_and_one_end_is_told() -> None:
    scene = Scene()
    scene.asked.ask(tell=True)
    assert scene.own(dump(1)) == []
    scene.asked.ask(tell=False)
    assert scene.own(dump(2)) == []
    await asyncio.wait_for(scene.ends.get(), 30)
    scene.asked.ask(tell=False)
    scene.asked.ask(tell=True)
    assert scene.own(dump(3)) == []
    await asyncio.wait_for(scene.ends.get(), 30)
    assert scene.ends.empty()


async def test_a_crash_is_no_stack_that_was_asked_for() -> None:
    crash = "Fatal Python error: Segmentation fault\nCurrent thread 0x0b (most recent call first):\n  File y\n"
    scene = Scene()
    scene.asked.ask(tell=False)
    assert scene.own(dump(1) + crash) == lines_of(crash)
    scene.asked.stop()


async def test_the_end_of_the_process_is_the_end_of_its_stacks() -> None:
    scene = Scene()
    scene.asked.ask(tell=True)
    scene.asked.finish()
    assert scene.ends.empty()  # none have come
    assert scene.own(dump(1)) == []
    scene.asked.finish()
    scene.asked.finish()
    assert scene.ends.qsize() == 1


async def test_after_stop_nothing_is_told() -> None:
    scene, other = Scene(), Scene()
    for each in (scene, other):
        each.asked.ask(tell=True)
        assert each.own(dump(1)) == []
    scene.asked.stop()
    await asyncio.wait_for(other.ends.get(), 30)  # whose time had begun later
    assert scene.ends.empty()
