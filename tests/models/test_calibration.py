import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calibration import Isotonic, expected_calibration_error, fit_temperature


def test_temperature_finds_how_overconfident_scores_are():
    generator = np.random.default_rng(0)
    true = generator.normal(size=(5000, 4)) * 2
    chances = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    labels = np.array([generator.choice(4, p=row) for row in chances])
    assert fit_temperature(true * 3, labels) == pytest.approx(3, rel=0.1)
    assert fit_temperature(true / 2, labels) == pytest.approx(0.5, rel=0.1)


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.booleans()), min_size=1, max_size=50),
    st.lists(st.floats(-2, 2), min_size=2, max_size=10),
)
def test_the_curve_never_falls_and_stays_inside(pairs, queries):
    curve = Isotonic.fit([s for s, _ in pairs], [o for _, o in pairs])
    answers = curve(sorted(queries))
    assert (np.diff(answers) >= -1e-12).all()
    assert ((answers > 0) & (answers < 1)).all()


def test_the_curve_is_calibrated():
    generator = np.random.default_rng(0)
    scores = generator.random(20_000)
    outcomes = generator.random(20_000) < scores**2
    curve = Isotonic.fit(scores[:10_000], outcomes[:10_000])
    error = expected_calibration_error(curve(scores[10_000:]), outcomes[10_000:])
    assert error < 0.02
    assert expected_calibration_error(scores[10_000:], outcomes[10_000:]) > 0.1


def test_calibration_error_of_the_sure_and_wrong():
    assert expected_calibration_error([1.0, 1.0], [0, 0]) == 1.0
