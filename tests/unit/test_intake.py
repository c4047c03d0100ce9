"""Deliveries to an island: in order, whatever overtakes what, and again from where one could not be had."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remotemedia.executors.ray.intake import Intake


def taken(intake: Intake) -> list[tuple[int, str]]:
    found = []
    while (head := intake.head) is not None:
        found.append(head)
        intake.take()
    return found


@given(st.lists(st.integers(1, 4), max_size=6), st.data())
def test_deliveries_that_overtake_each_other_are_put_in_order(sizes: list[int], data: st.DataObject) -> None:
    deliveries, position = [], 5
    for size in sizes:
        deliveries.append((0, position, [f"v{position + i}" for i in range(size)], False))
        position += size
    deliveries.append((0, position, [], True))
    intake, found = Intake(5), []
    for delivery in data.draw(st.permutations(deliveries)):
        assert not intake.is_at_end
        intake.give(*delivery)
        found += taken(intake)
    assert found == [(each, f"v{each}") for each in range(5, position)]
    assert intake.is_at_end


def test_what_could_not_be_had_comes_again_and_what_was_on_its_way_meanwhile_is_dropped() -> None:
    intake = Intake(0)
    intake.give(0, 0, ["a", "b", "c"], is_end=False)
    intake.give(0, 3, [], is_end=True)
    intake.take()
    assert [content for _, content in intake.waiting()] == ["b", "c"]
    assert intake.lost() == (1, 0)
    assert intake.head is None
    assert not intake.is_at_end
    intake.give(0, 1, ["old"], is_end=True)
    assert intake.head is None
    intake.give(1, 2, ["c"], is_end=True)
    intake.give(1, 1, ["b"], is_end=False)
    assert taken(intake) == [(1, "b"), (2, "c")]
    assert intake.is_at_end
