import json
import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models import index_file
from models.index import ExactIndex, HnswIndex, SwitchingIndex
from models.index_file import IndexFileError, SavedIndex, load, save

DIM = 8
KINDS = {
    "exact": ExactIndex,
    "hnsw": HnswIndex,
    "switching": lambda dim, metric: SwitchingIndex(dim, metric, exact_max=20),
}


def vectors(count, seed=0, dim=DIM):
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def brute(query, ids, rows, k, metric):
    if metric == "cosine":
        query = query / np.linalg.norm(query)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        distances = 1 - rows @ query
    else:
        distances = np.sqrt(((rows - query) ** 2).sum(axis=1))
    order = np.argsort(distances, kind="stable")[:k]
    return np.asarray(ids)[order].tolist(), distances[order]


@pytest.fixture(params=sorted(KINDS))
def kind(request):
    return request.param


@pytest.fixture(params=["cosine", "euclidean"])
def metric(request):
    return request.param


@pytest.fixture
def index(kind, metric):
    return KINDS[kind](DIM, metric)


class TestContract:
    def test_finds_the_nearest_with_their_distances(self, index, metric):
        rows = vectors(50)
        index.put(range(100, 150), rows)
        for query in vectors(10, seed=1):
            ids, distances = index.search(query, 7)
            expected_ids, expected = brute(query, range(100, 150), rows, 7, metric)
            assert ids.tolist() == expected_ids
            assert np.allclose(distances, expected, atol=1e-4)
            assert (ids.dtype, distances.dtype) == (np.int64, np.float32)

    def test_finds_itself_at_distance_zero(self, index):
        rows = vectors(30)
        index.put(range(30), rows)
        for n in range(30):
            ids, distances = index.search(rows[n], 1)
            assert ids.tolist() == [n]
            assert distances[0] == pytest.approx(0, abs=1e-3)

    def test_empty_and_small(self, index):
        assert index.search(vectors(1)[0], 5)[0].tolist() == []
        assert len(index) == 0
        index.put([4], vectors(1))
        assert index.search(vectors(1)[0], 5)[0].tolist() == [4]
        assert index.search(vectors(1)[0], 0)[0].tolist() == []
        index.remove([4, 5, -1])
        assert index.search(vectors(1)[0], 5)[0].tolist() == []

    def test_replaces(self, index):
        index.put(range(30), vectors(30))
        index.put([3], -vectors(30)[[3]])
        assert len(index) == 30
        assert index.search(-vectors(30)[3], 1)[0].tolist() == [3]
        ids, rows = index.items()
        assert ids.tolist() == list(range(30))
        assert rows[3] @ vectors(30)[3] < 0

    def test_the_last_of_equal_ids_wins(self, index):
        rows = vectors(2)
        index.put([5, 5], rows)
        assert len(index) == 1
        assert index.search(rows[1], 1)[1][0] == pytest.approx(0, abs=1e-3)

    def test_removes(self, index):
        rows = vectors(40)
        index.put(range(40), rows)
        index.remove(range(0, 40, 2))
        ids, _ = index.search(rows[0], 40)
        assert sorted(ids.tolist()) == list(range(1, 40, 2))

    def test_allow_is_a_filter(self, index, metric):
        rows = vectors(60)
        index.put(range(60), rows)
        allow = np.zeros(50, bool)  # shorter than the ids: the rest is not allowed
        allow[::5] = True
        ids, _ = index.search(rows[0], 4, allow)
        assert ids.tolist() == brute(rows[0], range(0, 50, 5), rows[:50:5], 4, metric)[0]
        assert index.search(rows[0], 4, np.zeros(0, bool))[0].tolist() == []
        assert index.search(rows[0], 4, np.ones(10, bool))[0].max() < 10
        assert index.search(rows[0], 400, np.ones(1000, bool))[0].size == 60

    def test_refuses_what_is_no_vector(self, index):
        with pytest.raises(ValueError, match="shape"):
            index.put([1], np.ones((1, DIM + 1), np.float32))
        with pytest.raises(ValueError, match="finite"):
            index.put([1], np.full((1, DIM), np.nan, np.float32))
        with pytest.raises(ValueError, match="negative"):
            index.put([-1], vectors(1))
        with pytest.raises(ValueError, match="finite numbers"):
            index.search(np.full(DIM, np.inf), 1)
        assert len(index) == 0

    def test_is_saved_and_restored_with_its_offsets(self, index, kind, metric, tmp_path):
        index.put(range(40), vectors(40))
        index.remove([7])
        index.put([3], vectors(1, seed=9))
        names = [f"item {n}" for n in range(40)]
        offsets = {"recsys.item-embeddings.v1/0": 812}
        path = tmp_path / "products.index"
        save(path, SavedIndex(index, "an-encoder@1", names, offsets))
        back = load(path, "an-encoder@1")
        assert (back.names, back.offsets, back.encoder) == (names, offsets, "an-encoder@1")
        assert (back.index.kind, back.index.metric, len(back.index)) == (kind, metric, 39)
        for query in vectors(5, seed=2):
            before, after = index.search(query, 9), back.index.search(query, 9)
            assert before[0].tolist() == after[0].tolist()
            assert np.allclose(before[1], after[1], atol=1e-5)
        back.index.put([7], vectors(1, seed=4))
        back.index.remove([8])
        assert len(back.index) == 39
        assert [p.name for p in tmp_path.iterdir()] == ["products.index"]

    def test_an_empty_index_is_saved_too(self, index, tmp_path):
        save(tmp_path / "i", SavedIndex(index, "e@1", [], {}))
        assert len(load(tmp_path / "i").index) == 0

    def test_changes_while_others_search(self, index):
        """Ids below 50 stay; the others come and go. No search may lose or invent one."""
        rows = vectors(100)
        index.put(range(50), rows[:50])
        failures, stop = [], threading.Event()

        def search():
            while not stop.is_set():
                ids, distances = index.search(rows[1], 100)
                stays = set(range(50)) - set(ids.tolist())
                if stays or len(set(ids.tolist())) != len(ids) or (np.diff(distances) < 0).any():
                    failures.append(ids)

        searchers = [threading.Thread(target=search) for _ in range(2)]
        for thread in searchers:
            thread.start()
        for turn in range(40):
            index.put(range(50, 100), rows[50:] + turn)
            index.remove(range(50, 100))
        stop.set()
        for thread in searchers:
            thread.join()
        assert not failures
        assert len(index) == 50


class IndexBesideDictionary(RuleBasedStateMachine):
    """Any order of changes: the index holds what a dictionary would."""

    kind = "exact"

    def __init__(self):
        super().__init__()
        self.index = KINDS[self.kind](DIM, "euclidean")
        self.expected = {}

    @rule(ids=st.lists(st.integers(0, 60), max_size=25), seed=st.integers(0, 1000))
    def put(self, ids, seed):
        rows = vectors(len(ids), seed)
        self.index.put(ids, rows)
        self.expected.update(zip(ids, rows, strict=True))

    @rule(ids=st.lists(st.integers(0, 60), max_size=10))
    def remove(self, ids):
        self.index.remove(ids)
        for n in ids:
            self.expected.pop(n, None)

    @invariant()
    def holds_the_same(self):
        ids, rows = self.index.items()
        assert ids.tolist() == sorted(self.expected)
        assert len(self.index) == len(self.expected)
        for n, row in zip(ids.tolist(), rows, strict=True):
            assert np.allclose(row, self.expected[n])
        found, _ = self.index.search(np.zeros(DIM, np.float32), 100)
        assert sorted(found.tolist()) == sorted(self.expected)


class HnswBesideDictionary(IndexBesideDictionary):
    kind = "hnsw"


class SwitchingBesideDictionary(IndexBesideDictionary):
    kind = "switching"


for machine in (IndexBesideDictionary, HnswBesideDictionary, SwitchingBesideDictionary):
    machine.TestCase.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
TestExactBesideDictionary = IndexBesideDictionary.TestCase
TestHnswBesideDictionary = HnswBesideDictionary.TestCase
TestSwitchingBesideDictionary = SwitchingBesideDictionary.TestCase


def clustered(count, dim=32):
    centres = vectors(100, seed=5, dim=dim)
    return centres[np.arange(count) % 100] + 0.5 * vectors(count, seed=6, dim=dim)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.05])
def test_the_graph_finds_nearly_all_that_the_exact_index_finds(share, metric):
    rows = clustered(6000)
    exact, graph = ExactIndex(32, metric), HnswIndex(32, metric, exact_below=100)
    for index in (exact, graph):
        index.put(range(6000), rows)
        index.remove(range(0, 6000, 3))
    allow = None if share == 1 else np.random.default_rng(0).random(6000) < share
    hits = 0
    for query in clustered(50) + 0.1:
        expected = set(exact.search(query, 10, allow)[0].tolist())
        hits += len(expected & set(graph.search(query, 10, allow)[0].tolist()))
    assert hits / 500 >= 0.97


def test_the_graph_is_rebuilt_when_the_dead_outnumber_the_living():
    index = HnswIndex(DIM)
    for turn in range(40):
        index.put(range(100), vectors(100, seed=turn))
    assert len(index) == 100
    assert index.next_label < 1400
    assert index.search(vectors(100, seed=39)[17], 1)[0].tolist() == [17]


def test_equal_distances_are_ordered_by_id():
    index = ExactIndex(DIM)
    index.put([9, 2, 5, 7], np.ones((4, DIM), np.float32))
    assert index.search(np.ones(DIM, np.float32), 3)[0].tolist() == [2, 5, 7]


def test_switching_goes_to_the_graph_and_back_never():
    index = SwitchingIndex(DIM, exact_max=20)
    index.put(range(20), vectors(20))
    assert index.inner.kind == "exact"
    index.put([20], vectors(1))
    assert index.inner.kind == "hnsw"
    index.remove(range(15))
    assert (index.inner.kind, len(index)) == ("hnsw", 6)


def test_vectors_of_two_encoders_never_meet(tmp_path):
    save(tmp_path / "i", SavedIndex(ExactIndex(DIM), "one@1", [], {}))
    with pytest.raises(ValueError, match="not of two@1"):
        load(tmp_path / "i", "two@1")


def test_what_is_no_index_is_refused(tmp_path):
    path = tmp_path / "i"
    path.write_text(json.dumps({"a": 1}))
    with pytest.raises(ValueError, match="no index"):
        load(path)


def test_a_file_is_for_whom_other_files_are_for(tmp_path):
    index = ExactIndex(DIM)
    index.put([0], vectors(1))
    save(tmp_path / "i", SavedIndex(index, "e@1", ["a"], {}))
    (tmp_path / "plain").touch()
    assert (tmp_path / "i").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("names", "[]"), ("names", "{"), ("names", "[1, 2]"), ("offsets", "[]"), ("dim", "many"),
        ("dim", "3"), ("inner", "hnsw"), ("encoder", None),
    ],
)  # fmt: skip
def test_damage_is_told_of_in_a_sentence(tmp_path, key, value):
    index = ExactIndex(DIM)
    index.put([0, 1], vectors(2))
    save(tmp_path / "i", SavedIndex(index, "e@1", ["a", "b"], {}))
    with safe_open(tmp_path / "i", "numpy") as file:
        about = {name: told for name, told in file.metadata().items() if name != key}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(arrays, tmp_path / "i", about if value is None else about | {key: value})
    with pytest.raises(IndexFileError, match="damaged"):
        load(tmp_path / "i")


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_arguments, **_names):
        raise SafetensorError("no space")

    monkeypatch.setattr(index_file, "save_file", full)
    with pytest.raises(IndexFileError, match="cannot be written"):
        save(tmp_path / "i", SavedIndex(ExactIndex(DIM), "e@1", [], {}))
    assert list(tmp_path.iterdir()) == []
