"""Every kind of value arrives as it was sent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from remotemedia.core.exceptions import SerializationError
from tests.conformance.link import Connector
from tests.conformance.values import DTYPES, array_of, arrays, objects, same


def test_arrays_of_every_dtype(connect: Connector) -> None:
    link = connect()
    for dtype in DTYPES:
        sent = array_of(dtype)
        got = link.carry(sent)
        assert same(got, sent), dtype
        assert got.dtype.str == sent.dtype.str


@pytest.mark.parametrize("values", [arrays, objects])
def test_arrays_of_every_layout_and_objects_of_every_kind(connect: Connector, values: Callable[[], Any]) -> None:
    for kind, value in values().items():
        assert same(connect().carry(value), value), kind


def test_functions_and_classes_that_have_no_name_elsewhere(connect: Connector) -> None:
    factor = 3

    class Local:
        def __init__(self, data: Any) -> None:
            self.data = data

    link = connect()
    assert link.carry(lambda x: x * factor)(5) == 15
    got = link.carry(Local(np.arange(5)))
    assert type(got).__name__ == "Local"
    assert same(got.data, np.arange(5))


def test_one_array_in_two_places_stays_one(connect: Connector) -> None:
    array = np.arange(10)
    first, second = connect().carry([array, array])
    assert np.shares_memory(first, second)


def test_a_value_that_cannot_be_pickled_is_refused_and_leaves_the_channel_usable(share: Connector) -> None:
    link = share(queue_frames=2)
    with pytest.raises(SerializationError, match="cannot be pickled") as caught:
        link.sender.pack({"lock": threading.Lock()})
    assert caught.value.__cause__ is not None
    assert link.fill(b"x") == 2


def test_values_of_all_kinds_one_after_the_other_through_few_slots(connect: Connector) -> None:
    link = connect(queue_frames=2)
    values = [*arrays().values(), *objects().values(), *map(array_of, DTYPES)]
    for value in [*values, *reversed(values)]:
        assert same(link.carry(value), value)
    assert link.sender.unreleased() == 0
