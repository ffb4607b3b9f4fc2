"""Nearest factors: the cells that the recommender searches, beside an exact product.

Options: `items`, `events`, `users`, `questions`. The factors are those of an ALS fit to a synthetic
shop, the questions its users folded in: real lengths and directions, not noise.
"""

import time
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks import meter
from benchmarks.event_log import Shop
from models.cells import Cells
from models.mf import FactorsConfig, fold_in, refit
from models.profile import unit

TOP = 50
NEWEST = 16  # items that speak for a user


def factors_of(given: dict[str, Any]) -> tuple[Any, Any]:
    """Item factors, and users folded in."""
    shop = Shop(given["events"], given["users"], given["items"])
    pairs = np.array([(int(row[0][1:]), int(row[1][1:])) for row in shop.rows()])
    matrix = csr_matrix(
        (np.ones(len(pairs), np.float32), (pairs[:, 0], pairs[:, 1])), (shop.users, shop.items)
    )
    matrix.sum_duplicates()
    config = FactorsConfig(iterations=3)
    factors = refit(matrix, config)
    gram = factors.T.astype(np.float64) @ factors
    people = []
    for user in range(given["questions"]):
        own = matrix[user].indices[:NEWEST].astype(np.int32)
        people.append(fold_in(factors, gram, own, np.ones(len(own), np.float32), config))
    return factors, np.array([person for person in people if person.any()])


def search(vectors: Any, people: Any) -> dict[str, float]:
    """Build cells, ask them, and compare with the exact answer."""
    started = time.process_time()
    cells = Cells(vectors)
    built = time.process_time()
    usable = np.ones(len(vectors), np.bool_)
    cells.search(people[0], usable, TOP)
    asked = time.process_time()
    found = [cells.search(person, usable, TOP)[0] for person in people]
    answered = time.process_time()
    exact = [np.argpartition(-(vectors @ person), TOP)[:TOP] for person in people]
    compared = time.process_time()
    shares = [np.isin(best, own).mean() for best, own in zip(exact, found, strict=True)]
    return {
        "vectors looked at": cells.look_at + int(cells.starts[0]),
        "cells us": 1e6 * (answered - asked) / len(people),
        "exact us": 1e6 * (compared - answered) / len(people),
        "recall@50": float(np.mean(shares)),
        "built s": built - started,
    }


def work(given: dict[str, Any]) -> dict[str, Any]:
    """Inner products of factors, as the factor source asks; cosines, as the profile does."""
    factors, people = factors_of(given)
    return {
        "inner product": search(factors, people),
        "cosine": search(unit(factors), unit(people)),
    }


if __name__ == "__main__":
    meter.report(work(meter.options()))
