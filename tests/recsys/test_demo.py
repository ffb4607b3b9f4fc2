"""What the demo leaves behind; the rest of it is shown by running it."""

from contextlib import contextmanager

import pytest

from recsys import demo
from recsys.settings import Settings
from streams import admin
from streams.broker import Broker


@pytest.fixture
def run(monkeypatch, capsys):
    def run(local, shown, delete):
        @contextmanager
        def open_broker():
            yield Broker("127.0.0.1:1", "a Kafka", local)

        async def find(connection, names):
            return dict.fromkeys(names)

        monkeypatch.setattr(demo, "open_broker", open_broker)
        monkeypatch.setattr(demo, "_demo", shown)
        monkeypatch.setattr(admin, "find_topics", find)
        monkeypatch.setattr(admin, "delete_topics", delete)
        code = demo.run(Settings(), plain=True)
        captured = capsys.readouterr()
        return code, " ".join((captured.out + captured.err).split())

    return run


async def well(*_):
    pass


async def ill(*_):
    raise demo.DemoError("the worker ended")


@pytest.mark.parametrize(("shown", "code"), [(well, 0), (ill, 1)])
def test_no_topic_stays_on_a_kafka_that_goes_on(run, shown, code):
    deleted = []

    async def delete(connection, names):
        deleted.extend(names)

    assert run(None, shown, delete)[0] == code
    assert len(deleted) > 10
    assert all(name.startswith("recsys.demo-") for name in deleted)


def test_topics_that_can_not_be_deleted_are_told_with_the_command(run):
    async def delete(connection, names):
        raise admin.AdminError("not allowed")

    code, told = run(None, well, delete)
    assert code == 0
    assert "not allowed" in told
    assert "kafka-topics.sh --bootstrap-server 127.0.0.1:1 --delete --topic 'recsys.demo-" in told


def test_a_kafka_that_ends_with_the_demo_is_left_as_it_is(run):
    async def delete(connection, names):
        raise AssertionError

    assert run(object(), well, delete)[0] == 0
