"""What is planned of a channel in shared memory; what it does is in tests/conformance."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remotemedia.config import ChannelConfig
from remotemedia.ipc.ledger import LedgerLayout
from remotemedia.ipc.shm_channel import ChannelSpec


def spec(receivers: int, **settings: int) -> ChannelSpec:
    return ChannelSpec.plan("test", receivers, ChannelConfig(**settings), LedgerLayout())


@given(receivers=st.integers(1, 300), queue_frames=st.integers(2, 256))
def test_views_that_all_receivers_hold_leave_a_ticket_free(receivers: int, queue_frames: int) -> None:
    share = spec(receivers, queue_frames=queue_frames).share_frames()
    assert 0 <= receivers * share < queue_frames
    assert share > 0 or receivers >= queue_frames


@given(receivers=st.integers(1, 300), borrowers=st.integers(1, 50), queue_frames=st.integers(2, 256))
def test_views_of_those_who_borrow_leave_one_free_too(receivers: int, borrowers: int, queue_frames: int) -> None:
    config = ChannelConfig(queue_frames=queue_frames)
    made = ChannelSpec.plan("test", receivers, config, LedgerLayout(), borrowers=borrowers)
    if not made.borrowers:
        return
    assert len(made.borrowers) == borrowers
    assert made.borrowed_frames() >= 1
    assert receivers * made.share_frames() + borrowers * made.borrowed_frames() < queue_frames


@given(receivers=st.integers(1, 300), window_bytes=st.integers(1, 1 << 40))
def test_and_half_of_the_window(receivers: int, window_bytes: int) -> None:
    assert receivers * spec(receivers, window_bytes=window_bytes).share_bytes() <= window_bytes / 2


@given(receivers=st.integers(1, 20), queue_frames=st.integers(2, 256))
def test_each_receiver_has_a_lane_with_a_word_for_each_ticket(receivers: int, queue_frames: int) -> None:
    layout = LedgerLayout()
    layout.region(1)
    made = ChannelSpec.plan("test", receivers, ChannelConfig(queue_frames=queue_frames), layout)
    assert len(made.lanes) == receivers
    for lane, following in zip(made.lanes, [*made.lanes[1:], layout.words], strict=True):
        assert lane + queue_frames <= following
