"""What a worker does with what all workers read whole; its life is tested end to end."""

from types import SimpleNamespace

import numpy as np

from models.mf import FactorsConfig
from recsys.factors import encode
from recsys.settings import Settings
from recsys.worker import Worker
from tests.recsys.test_factors import a_refit


def test_a_refit_of_another_width_than_this_worker_has_is_let_be(tmp_path):
    """While versions change, a newer worker's refit may be one that this one cannot take."""
    worker = Worker(Settings(data_dir=tmp_path), ["recommender"])
    width = FactorsConfig().factors
    try:
        for version, wide in (("als-1", width), ("als-2", width + 8)):
            refit = encode(*a_refit(version, items=50, width=wide))
            worker._load_factors([SimpleNamespace(key=key, value=value) for key, value in refit])
            assert worker.items.factors_version == "als-1"
        vectors = worker.items.tables["factors"]["vector"]
        assert np.any(vectors)
        assert vectors.shape[1] == width
    finally:
        worker.compute.close()
        worker.pipeline.close()
