"""The list budget: a steady rate, short rounds, and less of both while events wait."""

from recsys.list_budget import ListBudget


def test_what_was_spent_comes_back_with_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("recsys.list_budget.time.monotonic", lambda: now[0])
    budget = ListBudget(100.0)
    assert budget.available() == 50
    budget.spend(60)
    assert budget.available() == 0
    now[0] += 0.2
    assert budget.available() == 10
    now[0] += 60.0
    assert budget.available() == 50


def test_dear_lists_are_few_in_a_round():
    budget = ListBudget(10_000.0)
    for _ in range(100):
        budget.spend(10)
        budget.took(10, 0.1)
    assert 9 <= budget.available() <= 11


def test_while_events_wait_there_are_fewer_and_none_behind_a_seconds_lists():
    budget = ListBudget(100.0)
    rooms = []
    for behind, lanes in ((0, 1), (25, 1), (25, 2), (50, 2), (10_000, 1)):
        budget.round_begins(behind, lanes)
        rooms.append(budget.available())
    assert rooms == [50, 37, 25, 0, 0]


def test_without_a_budget_there_is_no_list_of_its_own():
    budget = ListBudget(0.0)
    budget.round_begins(7, 4)
    assert budget.available() == 0
