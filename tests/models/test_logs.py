"""Logarithms of many numbers against the library's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.logs import logs

LEAST, MOST = 2.0**-126, 2.0**127


@given(arrays(np.float32, st.integers(1, 40), elements=st.floats(LEAST, MOST, width=32)))
def test_they_are_off_by_at_most_a_rounding_or_two(numbers):
    expected = np.log(numbers.astype(np.float64))
    found = numbers.copy()
    logs(found)
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-12)
