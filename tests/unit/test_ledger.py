"""The shared counters."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from remotemedia.ipc.ledger import LINE, Ledger, LedgerLayout


@given(sizes=st.lists(st.integers(1, 100), min_size=1, max_size=30))
def test_regions_have_cache_lines_of_their_own(sizes: list[int]) -> None:
    layout = LedgerLayout()
    offsets = [layout.region(size) for size in sizes]
    for offset, size, following in zip(offsets, sizes, [*offsets[1:], layout.words], strict=True):
        assert offset % LINE == 0
        assert offset + size <= following


def test_all_who_have_the_descriptor_share_it() -> None:
    layout = LedgerLayout()
    first, second = layout.region(3), layout.region(1)
    one = Ledger.create(layout)
    other = Ledger(os.dup(one.fd))
    assert list(one.region(first, 3)) == [0, 0, 0]
    one.region(first, 3)[2] = (1 << 64) - 1
    other.region(second, 1)[0] = 7
    assert list(other.region(first, 3)) == [0, 0, (1 << 64) - 1]
    assert one.region(second, 1)[0] == 7
    one.close()
    other.close()


def test_a_region_outlives_the_ledger() -> None:
    layout = LedgerLayout()
    offset = layout.region(1)
    ledger = Ledger.create(layout)
    region = ledger.region(offset, 1)
    ledger.close()
    ledger.close()
    region[0] = 5
    assert region[0] == 5
