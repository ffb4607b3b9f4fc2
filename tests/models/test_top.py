"""The heap of the best few against sorting."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.top import push


@given(scores=st.lists(st.floats(0, 2, width=32), max_size=60), room=st.integers(1, 12))
@settings(deadline=None)
def test_the_heap_keeps_the_highest(scores, room):
    slots, best = np.empty(room, np.int32), np.empty(room, np.float32)
    count = 0
    for slot, score in enumerate(scores):
        count = push(slot, score, count, slots, best)
    kept = best[:count]
    assert sorted(kept.tolist()) == sorted(np.float32(scores).tolist())[-room:][-count or None :]
    assert len(set(slots[:count].tolist())) == count
    for slot, score in zip(slots[:count].tolist(), kept.tolist(), strict=True):
        assert np.float32(scores[slot]) == score
    if count:
        assert kept[0] == kept.min()
