"""Compile every kernel into the cache, once after an installation, so that starts are quick."""

import time

from recsys.catalogue import Catalogue
from recsys.pipeline import Pipeline, PipelineConfig, default_models
from recsys.state import ItemState


def warm_up() -> float:
    """Compile, or load from the cache; the seconds it took."""
    begun = time.perf_counter()
    items = ItemState(default_models())
    Pipeline(PipelineConfig(), items, Catalogue(items)).warm_up()
    return time.perf_counter() - begun


if __name__ == "__main__":
    print(f"Kernels are ready after {warm_up():.0f} s.")  # noqa: T201
