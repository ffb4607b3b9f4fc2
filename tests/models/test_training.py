import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from models.training import Schedule, fit  # noqa: E402

X = torch.tensor(np.random.default_rng(0).normal(size=(64, 5)), dtype=torch.float32)
Y = X @ torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0])


class Run:
    def __init__(self, schedule, checkpoint=None, stop_after=None):
        torch.manual_seed(4)
        self.network = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 1))
        self.stop_after = stop_after
        self.epochs = []
        self.history = fit(
            self.network, self.batches, self.loss, self.score, schedule, checkpoint, self.progress
        )

    def batches(self, generator):
        for rows in np.array_split(generator.permutation(64), 4):
            yield X[rows], Y[rows]

    def loss(self, batch):
        return ((self.network(batch[0])[:, 0] - batch[1]) ** 2).mean()

    def score(self):
        return -float(self.loss((X, Y)))

    def progress(self, epoch, _loss, _score):
        self.epochs.append(epoch)
        if epoch == self.stop_after:
            raise KeyboardInterrupt


def weights(network):
    return torch.cat([p.detach().ravel() for p in network.parameters()])


SCHEDULE = Schedule(epochs=12, learning_rate=0.05)


def test_learns():
    history = Run(SCHEDULE).history
    assert history.loss[-1] < history.loss[0] / 2
    assert history.best_score == max(history.score)
    assert len(history.score) == len(history.learning_rate) == 12


def test_equal_seeds_give_equal_weights():
    first = weights(Run(SCHEDULE).network)
    assert torch.equal(first, weights(Run(SCHEDULE).network))
    other = Schedule(epochs=12, learning_rate=0.05, seed=1)
    assert not torch.equal(first, weights(Run(other).network))


@pytest.mark.parametrize("stop_after", [1, 6, 10])
def test_an_interrupted_run_goes_on_exactly(tmp_path, stop_after):
    checkpoint = tmp_path / "deep" / "run.pt"
    whole = Run(SCHEDULE)
    with pytest.raises(KeyboardInterrupt):
        Run(SCHEDULE, checkpoint, stop_after)
    resumed = Run(SCHEDULE, checkpoint)
    # progress is told before the checkpoint is written: the epoch that was cut runs again
    assert resumed.epochs[0] == stop_after
    assert torch.equal(weights(whole.network), weights(resumed.network))
    assert whole.history == resumed.history


def test_a_finished_run_is_not_run_again(tmp_path):
    first = Run(SCHEDULE, tmp_path / "run.pt")
    again = Run(SCHEDULE, tmp_path / "run.pt")
    assert again.epochs == []
    assert torch.equal(weights(first.network), weights(again.network))


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    Run(SCHEDULE, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="other settings"):
        Run(Schedule(epochs=13, learning_rate=0.05), tmp_path / "run.pt")


def test_stops_early_and_keeps_the_best():
    class Falling(Run):
        def score(self):
            return -(float(len(self.epochs) - 2) ** 2)  # best after the third epoch

        def progress(self, epoch, _loss, _score):
            super().progress(epoch, _loss, _score)
            if epoch == 2:
                self.third = weights(self.network).clone()

    run = Falling(Schedule(epochs=50, learning_rate=0.05, patience=4))
    assert run.history.stopped_early
    assert len(run.history.score) == 7
    assert run.history.best_epoch == 2
    assert torch.equal(run.third, weights(run.network))


def test_vectors_are_not_decayed():
    class Idle(Run):
        def loss(self, batch):
            return 0 * super().loss(batch)

    torch.manual_seed(4)
    before = nn.Linear(5, 8)
    run = Idle(Schedule(epochs=3, learning_rate=0.1, weight_decay=0.5, patience=9))
    last = {}
    run.progress = lambda *_: last.update(run.network.state_dict())
    assert torch.equal(run.network[0].bias.detach(), before.bias.detach())
