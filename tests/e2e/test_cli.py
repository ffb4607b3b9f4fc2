"""The commands over a real broker, without a worker: what they write and read is in the topics."""

import asyncio
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from typer.testing import CliRunner

from recsys.catalogue import Catalogue
from recsys.cli import app
from recsys.event_batch import EventBatch
from recsys.item_state import ItemState
from recsys.pipeline import Pipeline, PipelineConfig, default_models
from recsys.user_state import UserState
from streams import codec, dead_letters, topics
from streams.chunk import Position, Record
from streams.codec import DecodeError
from streams.connection import Connection
from streams.events import BehaviourEvent, RankedItem, RankedList, Trigger
from streams.partition import partition_of
from streams.producer import BatchProducer, ProduceError
from streams.replay import ReplayError, read_topic
from streams.transaction import LaneProducer
from tests.records import NOW_MS, body, record

PARTITIONS = 3


@pytest.fixture
def shop(broker, prefix, monkeypatch, tmp_path):
    """Topics under a prefix of their own, and commands that use them."""
    for name in list(os.environ):
        if name.startswith("RECSYS_"):
            monkeypatch.delenv(name)
    given = {"BROKER": broker.bootstrap, "PREFIX": prefix, "APPLICATION": prefix}
    for name, value in {**given, "PARTITIONS": str(PARTITIONS)}.items():
        monkeypatch.setenv(f"RECSYS_{name}", value)
    monkeypatch.chdir(tmp_path)
    ok("topics", "create")
    return Shop(broker.bootstrap, prefix)


def recsys(*arguments):
    return CliRunner().invoke(app, list(arguments))


def ok(*arguments):
    result = recsys(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def ok_json(*arguments):
    return json.loads(ok(*arguments, "--json"))


class Shop:
    def __init__(self, bootstrap, prefix):
        self.connection = Connection(bootstrap)
        self.prefix = prefix

    def name(self, topic, prefix=None):
        return topic.name(prefix or self.prefix)

    def read(self, name):
        """Every committed record of a topic, partition by partition."""
        return asyncio.run(self._read(name))

    async def _read(self, name):
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.connection.bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            cluster = await consumer._client.fetch_all_metadata()
            tps = [TopicPartition(name, p) for p in sorted(cluster.partitions_for_topic(name))]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            records = []
            for tp in tps:
                while await consumer.position(tp) < ends[tp]:
                    records += (await consumer.getmany(tp, timeout_ms=500)).get(tp, [])
            return records
        finally:
            await consumer.stop()

    def write(self, name, records, partition=None):
        """Records in one transaction; by key where no partition is given."""

        async def work():
            producer = LaneProducer(self.connection, f"{self.prefix}-test")
            await producer.start()
            try:
                writes = {}
                for each in records:
                    to = partition_of(each.key, PARTITIONS) if partition is None else partition
                    writes.setdefault(Position(name, to), []).append(each)
                await producer.commit(writes, {}, "")
            finally:
                await producer.stop()
            # The commit is answered before its markers stand; taking the id over waits for them.
            successor = LaneProducer(self.connection, f"{self.prefix}-test")
            await successor.start()
            await successor.stop()

        asyncio.run(work())


def events_of(records):
    return [codec.decode(topics.BEHAVIOUR, each) for each in records]


def test_topics_are_created_once_and_checked(shop, monkeypatch):
    assert ok_json("topics", "create") == {"created": [], "differences": []}
    assert ok_json("topics", "check") == {"differences": []}
    rows = {row["topic"]: row for row in ok_json("topics", "list")}
    assert all(row["exists"] for row in rows.values())
    assert rows[shop.name(topics.BEHAVIOUR)]["partitions"] == PARTITIONS
    assert rows[shop.name(topics.USER_STATE)]["cleanup"] == "compact"
    monkeypatch.setenv("RECSYS_PARTITIONS", "7")
    result = recsys("topics", "check")
    assert result.exit_code == 1
    assert f"{shop.name(topics.BEHAVIOUR)} has 3 partitions, the setting partitions says 7" in (
        result.stderr
    )


def test_a_file_is_produced_by_key_and_its_bad_lines_are_told(shop, tmp_path):
    lines = [body(user_id=f"u{n % 50}", item_id=f"i{n}") for n in range(1000)]
    lines[500] = b"nonsense"
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    told = ok_json("produce", "a.jsonl")
    assert (told["sent"], told["refused"], told["refused_lines"][0]["line"]) == (999, 1, 501)
    records = shop.read(shop.name(topics.BEHAVIOUR))
    assert len(records) == 999
    for each, event in zip(records, events_of(records), strict=True):
        assert each.partition == partition_of(event.user_id.encode(), PARTITIONS)
    by_user = [e.item_id for e in events_of(records) if e.user_id == "u7"]
    assert by_user == [f"i{n}" for n in range(7, 1000, 50)]
    assert len({event.event_id for event in events_of(records)}) == 999


def test_products_are_produced_to_the_catalogue(shop, tmp_path):
    (tmp_path / "items.csv").write_text("sku,name,price\nA,Lamp,2.5\nB,Bell,-1\n")
    told = ok_json("produce", "items.csv", "--catalogue")
    assert (told["sent"], told["refused"]) == (1, 1)
    (product,) = shop.read(shop.name(topics.CATALOGUE))
    assert codec.decode(topics.CATALOGUE, product).title == "Lamp"


def test_a_file_is_replayed_by_time_into_a_shadow(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("RECSYS_PREFIX", f"{shop.prefix}.shadow")
    ok("topics", "create")
    monkeypatch.setenv("RECSYS_PREFIX", shop.prefix)
    rows = ["userId,movieId,timestamp"] + [f"7,{n},{1_700_000_000 - n}" for n in range(20)]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    told = ok_json("replay", "a.csv", "--sort", "--prefix", f"{shop.prefix}.shadow")
    assert told["sent"] == 20
    assert shop.read(shop.name(topics.BEHAVIOUR)) == []
    sent = events_of(shop.read(shop.name(topics.BEHAVIOUR, f"{shop.prefix}.shadow")))
    assert [event.item_id for event in sent] == [str(n) for n in reversed(range(20))]


def test_a_replay_at_speed_keeps_the_distances(shop, tmp_path):
    rows = ["userId,movieId,timestamp"] + [f"7,{n},{1_700_000_000 + 60 * n}" for n in range(4)]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    told = ok_json("replay", "a.csv", "--speed", "300")
    assert told["sent"] == 4
    written = [each.timestamp for each in shop.read(shop.name(topics.BEHAVIOUR))]
    assert written[-1] - written[0] >= 500  # 180 s at 300 times, but for what may go early
    assert ok_json("replay", "a.csv", "--speed", "300", "--limit", "1")["sent"] == 1


def test_a_stretch_of_a_topic_is_replayed_with_its_bytes_and_times(shop, monkeypatch):
    shadow = f"{shop.prefix}.shadow"
    monkeypatch.setenv("RECSYS_PREFIX", shadow)
    ok("topics", "create")
    source = shop.name(topics.BEHAVIOUR)
    bodies = [body(user_id="u1", item_id=f"i{n}") for n in range(5)] + [b"nonsense"]
    shop.write(source, [Record(b"u1", each) for each in bodies])
    assert ok_json("replay", "--topic", source, "--dry-run")["sent"] == 6
    assert ok_json("replay", "--topic", source, "--from-offset", "2")["sent"] == 4
    before = [each for each in shop.read(source) if each.offset >= 2]
    after = shop.read(shop.name(topics.BEHAVIOUR, shadow))
    assert [each.value for each in after] == [each.value for each in before]
    assert [each.timestamp for each in after] == [each.timestamp for each in before]
    for old, new in zip(before, after, strict=True):
        assert dict(new.headers)["ce_id"] == f"{source}/{old.partition}/{old.offset}".encode()
    later = str(before[-1].timestamp + 1)
    assert ok_json("replay", "--topic", source, "--from-time", later)["sent"] == 0
    assert ok_json("replay", "--topic", source, "--sort", "--limit", "3")["sent"] == 3


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_what_any_client_writes_is_read(shop, monkeypatch, compression):
    source, shadow = shop.name(topics.BEHAVIOUR), f"{shop.prefix}.shadow"
    asyncio.run(write_with_odd_header(shop, source, compression))
    monkeypatch.setenv("RECSYS_PREFIX", shadow)
    ok("topics", "create")
    assert ok_json("replay", "--topic", source)["sent"] == 2
    first, second = shop.read(shop.name(topics.BEHAVIOUR, shadow))
    assert dict(first.headers)["caf\\xe9"] == b"x"
    assert (first.value, second.value) == (b"v" * 999, b"w")


class RawName(str):
    """A header name that goes onto the wire in Latin-1."""

    def encode(self, *_):
        return b"caf\xe9"


async def write_with_odd_header(shop, name, compression):
    """One record with a header name that is not UTF-8, and one after it."""
    async with AIOKafkaProducer(
        bootstrap_servers=shop.connection.bootstrap, compression_type=compression
    ) as producer:
        batch = producer.create_batch()
        code = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}[compression]
        batch._builder = _DefaultRecordBatchBuilderPy(2, code, 0, -1, -1, 0, 1 << 20)
        batch.append(key=b"u1", value=b"v" * 999, timestamp=None, headers=[(RawName("x"), b"x")])
        batch.close()
        await (await producer.send_batch(batch, name, partition=0))
        await producer.send_and_wait(name, b"w", partition=0, key=b"u1")


def test_dead_letters_go_back_once_and_mended(shop):
    source = shop.name(topics.BEHAVIOUR)
    broken = [
        (record(body(type="buy"), b"u1", source, 0, 5), "unknown-type"),
        (record(body(), None, source, 1, 6), "key"),
        (record(b"nonsense", b"u1", source, 0, 7), "not-json"),
    ]
    letters = [dead_letters.dead_letter(r, DecodeError(why, "x", "y")) for r, why in broken]
    shop.write(topics.dead_letter_name(source), letters, partition=0)
    arguments = ["replay", "--dlq", "--set", "type=purchase"]
    dry = ok_json(*arguments, "--dry-run")
    assert (dry["sent"], len(dry["kept"])) == (2, 1)
    assert shop.read(source) == []
    one = ok_json(*arguments, "--reason", "unknown-type")
    assert (one["sent"], one["other_reason"]) == (1, 2)
    rest = ok_json(*arguments)
    assert (rest["sent"], rest["already_sent"], len(rest["kept"])) == (1, 1, 1)
    assert rest["kept"][0]["reason"] == "not-json"
    again = ok_json(*arguments)
    assert (again["sent"], again["already_sent"]) == (0, 2)
    sent = shop.read(source)
    events = events_of(sent)
    assert {event.event_id for event in events} == {f"{source}/0/5", f"{source}/1/6"}
    assert all(event.type == "purchase" and event.user_id == "u1" for event in events)
    assert all(each.key == b"u1" for each in sent)


def ranked_list(user, offset):
    return RankedList(
        list_id=f"l{offset}", user_id=user,
        trigger=Trigger(kind="event", topic="t", partition=0, offset=offset),
        items=[RankedItem(item_id="i1", score=0.5, rank=1, sources=["own"], reason="because")],
        model_version="m", variant="v", event_time=NOW_MS, produced_time=NOW_MS,
    )  # fmt: skip


def test_the_newest_list_of_a_user_is_found_however_deep(shop):
    name = shop.name(topics.RECOMMENDATIONS)
    user = b"u1"
    noise = [f"n{n}" for n in range(200) if partition_of(f"n{n}".encode(), PARTITIONS)
             == partition_of(user, PARTITIONS)]  # fmt: skip
    lists = [ranked_list("u1", 1), ranked_list("u1", 2)]
    lists += [ranked_list(noise[n % len(noise)], 10 + n) for n in range(1200)]
    shop.write(name, [Record(each.user_id.encode(), codec.encode(each)) for each in lists])
    assert ok_json("recommendations", "--user", "u1")["list_id"] == "l2"
    assert "because" in ok("recommendations", "--user", "u1")
    result = recsys("recommendations", "--user", "nobody", "--wait", "0.3")
    assert result.exit_code == 1
    assert "there is no list for user nobody" in result.stderr


def test_lists_are_followed_and_only_committed_ones(shop):
    name = shop.name(topics.RECOMMENDATIONS)
    asyncio.run(abandon(shop, name))
    shop.write(name, [Record(b"u1", codec.encode(ranked_list("u1", n))) for n in range(3)])
    lines = ok("recommendations", "--from-start", "--limit", "3", "--json").splitlines()
    assert [json.loads(line)["list_id"] for line in lines] == ["l0", "l1", "l2"]
    assert "because" in ok("recommendations", "--from-start", "--limit", "2")


def test_lists_that_are_followed_into_a_file_are_there_as_they_come(shop, tmp_path):
    name = shop.name(topics.RECOMMENDATIONS)
    shop.write(name, [Record(b"u1", codec.encode(ranked_list("u1", n))) for n in range(2)])
    out = tmp_path / "lists.txt"
    with out.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "recsys", "recommendations", "--from-start"], stdout=file,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
    deadline_s = time.monotonic() + 30
    try:
        while len(out.read_text().splitlines()) < 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    lines = out.read_text().splitlines()
    assert all(line.endswith("u1  event  i1  because") for line in lines)


async def abandon(shop, name):
    """Write a list in a transaction that is then given up."""
    producer = LaneProducer(shop.connection, f"{shop.prefix}-gone")
    await producer.start()
    record = Record(b"u1", codec.encode(ranked_list("u1", 9)))
    await producer._transactions._send_all(
        {Position(name, partition_of(b"u1", PARTITIONS)): [record]}
    )
    await producer.stop()
    await producer.start()  # that gives it up
    await producer.stop()


def test_what_is_known_is_shown(shop):
    items = ItemState(default_models())
    pipeline = Pipeline(PipelineConfig(), items, Catalogue(items))
    users = UserState(items)
    rows = [("u1", "a"), ("u1", "b"), ("u2", "a"), ("u2", "b"), ("u2", "c"), ("u1", "a")]
    batch = EventBatch.of(
        users, [user for user, _ in rows], [item for _, item in rows], ["purchase"] * len(rows),
        [NOW_MS + 1000 * n for n in range(len(rows))], None, [None] * len(rows),
    )  # fmt: skip
    users.begin()
    items.begin()
    updates, _ = pipeline.learn_and_recommend(users, batch, np.zeros(len(rows), np.bool_))
    pipeline.fold(updates)
    lanes = {}
    for key, value in users.dirty_records():
        user = key[:-2]
        lane = partition_of(user, PARTITIONS) if user in (b"u1", b"u2") else 0
        lanes.setdefault(lane, []).append(Record(key, value))
    for lane, records in lanes.items():
        shop.write(shop.name(topics.USER_STATE), records, partition=lane)
    item_rows = [Record(key, value) for key, value in items.dirty_records()]
    shop.write(shop.name(topics.ITEM_STATE), item_rows, partition=0)
    product = Record(b"a", b'{"item_id":"a","title":"Lamp","price":2.5,"category":"Light"}')
    shop.write(shop.name(topics.CATALOGUE), [product], partition=0)

    known = ok_json("state", "--user", "u1")
    assert known["events_applied"] == 3
    assert [(each["item_id"], each["events"]) for each in known["history"]] == [("a", 2), ("b", 1)]
    assert known["history"][0]["title"] == "Lamp"
    assert known["counts"] == {"purchase": 3}
    assert all(isinstance(value, float) for value in known["profile"])
    item = ok_json("state", "--item", "a")
    assert (item["events"], item["users"], item["title"], item["price"]) == (3, 2, "Lamp", 2.5)
    assert "b" in {each["item_id"] for each in item["goes_with"]["knn-long"]}
    why = ok_json("state", "--user", "u1", "--item", "c")
    assert why["had_events"] == 0
    said = {each["source"]: each["because_of"] for each in why["sources"]}
    assert said["knn-long"] in {"a", "b"}
    assert why["left_out"] is None or isinstance(why["left_out"], str)
    left_out = ok_json("state", "--user", "u1", "--removed")
    assert all(row["reason"] for row in left_out)
    ranker = ok_json("state", "ranker")
    assert {"networks", "line", "knn-long"} <= set(ranker["ndcg_of_late"])
    assert ranker["loud"]["line"] > 0.5  # a young one
    assert "prior" in [row["feature"] for row in ranker["features"]]
    assert "knn-long" in ok("state", "ranker")
    sizes = ok_json("state")
    assert (sizes["users"], sizes["items"]) == (2, 3)
    assert "Lamp" in ok("state", "--user", "u1")
    assert "knn-long" in ok("state", "--item", "a")
    assert "knn-long" in ok("state", "--user", "u1", "--item", "c")
    assert "user_bytes_each" in ok("state")
    for unknown in (["--user", "u9"], ["--item", "z"], ["--user", "u9", "--item", "a"]):
        result = recsys("state", *unknown)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "nothing is known" in result.stderr


@asynccontextmanager
async def producing(shop, name):
    async with BatchProducer(shop.connection, name) as producer:
        yield producer


def test_the_batch_producer_keeps_order_and_counts(shop):
    name = shop.name(topics.BEHAVIOUR)
    value = codec.encode(
        BehaviourEvent(user_id="u1", item_id="i" * 200, type="view", timestamp=NOW_MS)
    )

    async def work():
        async with producing(shop, name) as producer:
            for n in range(5000):  # several batches of one partition
                if producer.add(b"u1", value + b" " * (n % 100), [("n", str(n).encode())]):
                    await producer.send_full()
            producer.add(None, b"keyless", timestamp_ms=NOW_MS)
            await producer.flush()
            return producer.acknowledged

    assert asyncio.run(work()) == 5001
    records = shop.read(name)
    numbers = [int(dict(each.headers)["n"]) for each in records if each.key == b"u1"]
    assert numbers == list(range(5000))
    (keyless,) = [each for each in records if each.key is None]
    assert (keyless.partition, keyless.timestamp) == (0, NOW_MS)


# A shell that runs the tests in the background lets its children ignore it.
HEEDS_SIGINT = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("recsys", run_name="__main__")
"""


def interrupted(shop, topic, count, *arguments):
    """Start a command, send it SIGINT when so many records lie in a topic; what it said then."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEEDS_SIGINT, *arguments], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    try:
        while len(shop.read(topic)) < count:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, told
    return told


@pytest.mark.parametrize("as_json", [False, True])
def test_of_a_file_that_is_cut_off_what_can_be_read_is_sent_and_counted(shop, tmp_path, as_json):
    rows = [f"7,{n},{1_700_000_000 + n}" for n in range(20_000)]
    whole = gzip.compress("\n".join(["userId,movieId,timestamp", *rows]).encode())
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    topic = shop.name(topics.BEHAVIOUR)
    done = subprocess.run(
        [sys.executable, "-m", "recsys", "produce", "a.csv.gz", *(["--json"] if as_json else [])],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    sent = len(shop.read(topic))
    assert done.returncode == 1
    assert 1000 < sent < 20_000
    if as_json:
        told = json.loads(done.stdout)
        assert (told["sent"], told["line"]) == (sent, sent + 1)
        assert "a.csv.gz is damaged" in told["damaged"]
    else:
        assert "a.csv.gz is damaged" in done.stderr
        assert f"{sent} records sent to {topic}, up to line {sent + 1}." in done.stderr


def test_ctrl_c_says_how_much_of_a_file_was_sent(shop, tmp_path):
    seconds = [0, 0, 0, 3600]
    rows = [f"7,{n},{1_700_000_000 + second}" for n, second in enumerate(seconds)]
    (tmp_path / "a.csv").write_text("\n".join(["userId,movieId,timestamp", *rows]))
    topic = shop.name(topics.BEHAVIOUR)
    told = interrupted(shop, topic, 3, "replay", "a.csv", "--speed", "1")
    assert f"stopped: 3 records sent to {topic}, up to line 4." in told
    assert len(shop.read(topic)) == 3


def test_ctrl_c_sends_what_was_taken_of_a_file(shop, tmp_path):
    """While nothing is due everything lies in an open batch, which must not be lost."""
    lines = [body(user_id="u1", item_id=f"i{n}") for n in range(400_000)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    topic = shop.name(topics.BEHAVIOUR)
    told = interrupted(shop, topic, 1, "produce", "a.jsonl")
    sent, line = map(int, re.search(r"stopped: (\d+) records sent .* line (\d+)\.", told).groups())
    assert line <= sent < 400_000
    assert len(shop.read(topic)) == sent


def test_ctrl_c_says_how_much_of_a_topic_was_sent(shop, monkeypatch):
    shadow = f"{shop.prefix}.shadow"
    monkeypatch.setenv("RECSYS_PREFIX", shadow)
    ok("topics", "create")
    source, topic = shop.name(topics.BEHAVIOUR), shop.name(topics.BEHAVIOUR, shadow)
    times = [NOW_MS, NOW_MS, NOW_MS + 600_000]
    shop.write(source, [Record(b"u1", body(), (), time) for time in times])
    told = interrupted(shop, topic, 2, "replay", "--topic", source, "--speed", "1")
    assert f"stopped: 2 records of {source} sent to {topic}." in told
    assert len(shop.read(topic)) == 2


@pytest.fixture
def pause(broker):
    """What freezes the broker; it goes on when the test has ended."""
    if broker.local is None:
        pytest.skip("only a broker of our own can be frozen")

    def freeze():
        broker.local.pause()
        time.sleep(0.5)  # all of its threads

    yield freeze
    broker.local.resume()


def test_a_producer_whose_broker_falls_silent_says_how_far_it_came(shop, pause):
    async def work():
        name = shop.name(topics.BEHAVIOUR)
        async with BatchProducer(shop.connection, name, patience_s=1) as producer:
            for _ in range(7):
                producer.add(b"u1", b"before")
            await producer.flush()
            pause()
            producer.add(b"u1", b"after")
            await producer.flush()

    begin_s = time.monotonic()
    told = r"no broker answered for 1 s \(worker\.broker_timeout_s\); 7 records were acknowledged"
    with pytest.raises(ProduceError, match=told):
        asyncio.run(work())
    assert time.monotonic() - begin_s < 20


def test_a_reader_whose_broker_falls_silent_ends(shop, pause):
    name = shop.name(topics.BEHAVIOUR)
    # Two fetches at the least: what lies in the first is read before the silence.
    shop.write(name, [Record(b"u1", b"x" * 900_000) for _ in range(20)])

    async def work():
        async for _ in read_topic(shop.connection, name, patience_s=1):
            pause()

    with pytest.raises(ReplayError, match="no broker answered for 1 s"):
        asyncio.run(work())


def test_following_ends_where_the_broker_falls_silent(shop, pause, monkeypatch):
    monkeypatch.setenv("RECSYS_WORKER__BROKER_TIMEOUT_S", "2")
    freezing = threading.Timer(3, pause)
    freezing.start()
    result = recsys("recommendations")
    freezing.join()
    assert result.exit_code == 1
    assert "no broker answered for 2 s (worker.broker_timeout_s)" in result.stderr


def test_a_topic_that_is_not_there_is_said(shop):
    async def work():
        async with producing(shop, f"{shop.prefix}.nothing"):
            pass

    with pytest.raises(ProduceError, match="there is no topic"):
        asyncio.run(work())
    result = recsys("replay", "--topic", f"{shop.prefix}.none.behaviour.v1")
    assert result.exit_code == 1
    assert "there is no topic" in result.stderr
