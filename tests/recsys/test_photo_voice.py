import numpy as np
import pytest

from recsys.board import Candidates
from recsys.rank import Scored, hear_photo


def scored(ranker, likeness):
    items = np.arange(len(ranker), dtype=np.int32)
    said = np.stack([np.zeros(len(ranker)), likeness], axis=1).astype(np.float32)
    candidates = Candidates(items, said, np.zeros(len(ranker), np.uint32))
    return Scored(candidates, np.zeros((len(ranker), 1), np.float32), np.array(ranker, np.float32))


def test_a_photo_just_sent_leads_and_the_ranker_breaks_its_ties():
    heard = hear_photo(scored([0.1, 0.0, 0.3, 0.2], [0.9, 0.9, 0.1, 0.0]), 1, 1.0)
    assert np.argsort(-heard.scores)[:2].tolist() == [0, 1]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_scale_of_the_rankers_scores_does_not_matter(scale):
    before = np.array([0.5, 0.4, -0.3, 0.2]) * scale
    heard = hear_photo(scored(before, [0.1, 0.2, 0.9, 0.0]), 1, 1.0)
    assert np.argmax(heard.scores) == 2


def test_a_faded_photo_is_silent():
    before = scored([0.5, 0.4, -0.3, 0.2], [0.1, 0.2, 0.9, 0.0])
    assert np.allclose(hear_photo(before, 1, 0.0).scores, before.scores)
    assert np.argmax(hear_photo(before, 1, 0.05).scores) == 0


def test_a_photo_that_tells_nothing_apart_changes_nothing():
    before = scored([0.5, 0.4], [0.3, 0.3])
    assert hear_photo(before, 1, 1.0) is before
    level = hear_photo(scored([0.0, 0.0], [0.1, 0.9]), 1, 1.0)
    assert level.scores[1] > level.scores[0]
