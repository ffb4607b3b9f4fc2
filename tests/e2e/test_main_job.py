"""The main job over every broker: events in, ranked lists out, each exactly once, whatever dies."""

import asyncio
import json
import math
import random
import shutil
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cramjam
import pytest

from recsys.ids import key_of
from streams import dead_letters, topics
from streams.broker import Broker
from streams.chunk import Record
from streams.events import HEADER_ORIGIN
from streams.partition import partition_of
from streams.unpacking import UNPACKED_BYTES_MAX, ZSTD
from tests.e2e.harness import PARTITIONS, Shop, WorkerProcess, until
from tests.records import raw_batch, raw_record

NOW_MS = 1_700_000_000_000
STOP_S = 10.0  # a graceful stop's promise


def event(user: str, item: str, at_s: int = 0, **more: Any) -> dict[str, Any]:
    """A behaviour event."""
    fields = {"user_id": user, "item_id": item, "type": "view", "timestamp": NOW_MS + at_s * 1000}
    return fields | more


def random_events(seed: int, count: int, users: int = 40, items: int = 60) -> list[dict[str, Any]]:
    """A log to compare runs by: some users busy, some items popular, ids on some events."""
    rng = random.Random(seed)
    events = []
    for at in range(count):
        user, item = int(users * rng.random() ** 2), int(items * rng.random() ** 2)
        kind = rng.choice(["view", "view", "click", "cart", "purchase", "return", "impression"])
        more = {"event_id": f"e{at}"} if at % 3 else {}
        events.append(event(f"u{user}", f"i{item}", at, type=kind, **more))
    return events


def events_by_user(events: list[dict[str, Any]]) -> Counter[str]:
    return Counter(each["user_id"] for each in events)


async def events_in_state(shop: Shop) -> Counter[str]:
    """How many events of each user the committed state has counted."""
    found: Counter[str] = Counter()
    for users in await shop.users():
        for slot, name in users.ids.names.items():
            found[name] += int(users.heads["events"][slot])
    return found


def assert_lists_are_unique(lists: list[dict[str, Any]]) -> None:
    twice = [name for name, n in Counter(each["list_id"] for each in lists).items() if n > 1]
    assert not twice, f"lists written twice: {twice[:5]}"


async def until_newest_are_answered(
    shop: Shop, events: list[dict[str, Any]], sent: list[Any]
) -> None:
    """Under load a list may skip states, but the newest state of each user has its list."""
    newest = {e["user_id"]: (s.partition, s.offset) for e, s in zip(events, sent, strict=True)}

    async def look() -> bool:
        triggers = [each["trigger"] for each in await shop.lists()]
        return {(at["partition"], at["offset"]) for at in triggers} >= set(newest.values())

    await until(look, "a list for the newest state of each user")


@pytest.fixture(scope="class")
def shop(
    opened_broker: Broker, tmp_path_factory: pytest.TempPathFactory, prefix_of_class: str
) -> Iterator[Shop]:
    """A shop with one worker at work, shared by the tests that disturb nothing."""
    shop = Shop(opened_broker.bootstrap, prefix_of_class, tmp_path_factory.mktemp("shop"))

    async def open_it() -> None:
        await shop.create()
        await shop.start().until_ready()

    try:
        asyncio.run(open_it())
        yield shop
    finally:
        asyncio.run(shop.remove())


@pytest.fixture(scope="class")
def prefix_of_class() -> str:
    return f"e{random.SystemRandom().getrandbits(40):010x}"


@pytest.fixture
def new_shop(broker: Broker, prefix: str, tmp_path: Path) -> Iterator[Any]:
    """Makes shops of this test's own; all their workers end with it."""
    made: list[Shop] = []

    async def make(partitions: int = PARTITIONS, **settings: str) -> Shop:
        name = f"{prefix}-{len(made)}"
        shop = Shop(broker.bootstrap, name, tmp_path / name, partitions, settings)
        made.append(shop)
        return await shop.create()

    yield make
    for each in made:
        asyncio.run(each.remove())


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("broker")
class TestMainJob:
    async def test_every_event_has_one_list(self, shop: Shop) -> None:
        events = [event(f"a{at % 7}", f"ai{at % 11}", at) for at in range(70)]
        before = len(await shop.lists())
        sent = await shop.produce_events(events)
        await shop.settled()

        lists = [each for each in await shop.lists() if each["user_id"].startswith("a")]
        assert len(await shop.lists()) == before + len(events)
        by_trigger = {(x["trigger"]["partition"], x["trigger"]["offset"]): x for x in lists}
        assert len(by_trigger) == len(lists) == len(events)
        for each, at in zip(events, sent, strict=True):
            ranked = by_trigger[at.partition, at.offset]
            assert ranked["user_id"] == each["user_id"]
            assert ranked["event_time"] == each["timestamp"]
            assert ranked["trigger"]["topic"] == shop.topic(topics.BEHAVIOUR)
            assert ranked["trigger"]["kind"] == "event"
            assert ranked["produced_time"] > 0
            assert ranked["model_version"]
        assert len({each["list_id"] for each in lists}) == len(lists)
        newest = by_trigger[sent[-1].partition, sent[-1].offset]["items"]
        assert [item["rank"] for item in newest] == list(range(1, len(newest) + 1))
        assert len(newest) == 10
        assert len({item["item_id"] for item in newest}) == 10
        scores = [item["score"] for item in newest]
        assert scores == sorted(scores, reverse=True)
        assert all(math.isfinite(score) for score in scores)
        assert all(item["sources"] and item["reason"] for item in newest)

        expected = Counter(key_of(e["item_id"]) for e in events if e["user_id"] == "a3")
        assert await shop.user("a3") == expected
        items = await shop.items()
        counted = items.tables["popularity"]["events"]
        for item, count in Counter(e["item_id"] for e in events).items():
            assert counted[items.find(item)] == count

    async def test_requests_are_answered_within_their_filter(self, shop: Shop) -> None:
        products = [
            {
                "item_id": f"p{n}",
                "title": f"Product {n}",
                "category": "ab"[n % 2],
                "price": float(n),
            }
            for n in range(12)
        ]
        products[4]["available"] = False
        await self._put_products(shop, products)
        events = [event(f"r{at % 5}", f"p{at % 12}", at) for at in range(60)]
        await shop.produce_events(events)
        await shop.settled()

        plain = await self._ask(shop, "r1", "plain", k=12)
        assert plain["trigger"]["kind"] == "request"
        filtered = {"categories": ["a"], "price_min": 2, "price_max": 9, "exclude": ["p8"]}
        narrow = await self._ask(shop, "r1", "narrow", k=12, filter=filtered)
        assert {item["item_id"] for item in narrow["items"]} == {"p2", "p6"}
        chosen = await self._ask(shop, "r2", "chosen", filter={"items": ["p3", "p5", "nowhere"]})
        assert {item["item_id"] for item in chosen["items"]} == {"p3", "p5"}
        alike = await self._ask(shop, "nobody-yet", "alike", k=3, context_items=["p7"])
        assert len(alike["items"]) == 3
        assert "p7" not in {item["item_id"] for item in alike["items"]}
        cold = await self._ask(shop, "nobody-yet", "cold", k=5)
        assert len(cold["items"]) == 5

        await shop.produce(topics.CATALOGUE, [Record(b"p3", None)])
        await self._put_products(shop, [{"item_id": "p6", "title": "Sold out", "available": False}])
        later = await self._ask(shop, "r1", "later", k=100)
        gone = await self._ask(shop, "r2", "gone", filter={"items": ["p3", "p5", "p6"]})
        assert {item["item_id"] for item in gone["items"]} == {"p5"}
        assert not {"p3", "p4", "p6"} & {item["item_id"] for item in later["items"]}
        lists = await shop.lists()
        assert not [x for x in lists if "p4" in {item["item_id"] for item in x["items"]}]
        assert_lists_are_unique(lists)
        answers = Counter(x["request_id"] for x in lists if x.get("request_id"))
        assert answers["plain"] == answers["narrow"] == answers["gone"] == 1

    async def _put_products(self, shop: Shop, products: list[dict[str, Any]]) -> None:
        """List products, and wait until the worker knows them: the last one tells of all."""
        last = {"item_id": f"known-{len(await shop.read(topics.CATALOGUE))}", "title": "Last"}
        await shop.produce(
            topics.CATALOGUE,
            [Record(p["item_id"].encode(), json.dumps(p).encode()) for p in [*products, last]],
        )
        asked = 0

        async def look() -> bool:
            nonlocal asked
            asked += 1
            name = f"{last['item_id']}-{asked}"
            answer = await self._ask(shop, "asker", name, filter={"items": [last["item_id"]]})
            return bool(answer["items"])

        await until(look, "the products to be known")

    async def _ask(self, shop: Shop, user: str, request_id: str, **more: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        body = {"user_id": user, "request_id": request_id, **more}
        await shop.produce(topics.REQUESTS, [Record(user.encode(), json.dumps(body).encode())])

        async def look() -> dict[str, Any] | None:
            for each in await shop.lists():
                if each.get("request_id") == request_id:
                    return each
            return None

        answer = await until(look, f"the answer to {request_id}")
        assert answer["user_id"] == user
        return answer

    async def test_bad_records_become_dead_letters(self, shop: Shop) -> None:
        bad = list(bad_events("b0"))
        lane = partition_of(b"b0", PARTITIONS)
        records: list[Record] = []
        good = []
        for at, (_, _, record) in enumerate(bad):
            good.append(event("b0", f"bi{at}", at))
            records += [Record(b"b0", json.dumps(good[-1]).encode()), record]
        sent = await shop.produce(topics.BEHAVIOUR, records, partition=lane)
        more = [
            (topics.REQUESTS, "request_id", Record(b"b0", b'{"user_id": "b0"}')),
            (topics.REQUESTS, "k", Record(b"b0", b'{"user_id":"b0","request_id":"q","k":-1}')),
            (topics.CATALOGUE, "price", Record(b"x", b'{"item_id": "x", "price": -1}')),
            (topics.CATALOGUE, "key", Record(b"y", b'{"item_id": "x"}')),
        ]
        for topic, _, record in more:
            await shop.produce(topic, [record])
        await shop.settled()

        letters = [dead_letters.parse(letter) for letter in await shop.dead_letters()]
        by_offset = {letter.offset: letter for letter in letters if letter.partition == lane}
        assert len(letters) == len(by_offset) == len(bad)
        told = [by_offset[at.offset] for at in sent[1::2]]
        assert [(x.reason, x.field) for x in told] == [(reason, field) for reason, field, _ in bad]
        for (_, _, record), letter in zip(bad, told, strict=True):
            assert letter.topic == shop.topic(topics.BEHAVIOUR)
            assert (letter.key, letter.value or b"") == (record.key, record.value or b"")
            assert letter.headers == tuple(record.headers)
            assert letter.message
        assert await shop.user("b0") == {key_of(each["item_id"]): 1 for each in good}
        for topic, field, record in more:

            async def look(topic: Any = topic, field: str = field, record: Any = record) -> bool:
                found = [dead_letters.parse(each) for each in await shop.dead_letters(topic)]
                return [x.value for x in found if x.field == field] == [record.value]

            await until(look, f"the dead letter of {field}")

    @pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
    async def test_kcat_needs_nothing_of_ours(self, shop: Shop) -> None:
        # librdkafka's own partitioner is CRC32: most keys fall into another lane than murmur2's.
        users = [f"k{n}" for n in range(40)]
        wrong = [u for u in users if zlib.crc32(u.encode()) % PARTITIONS != _lane(u)][:6]
        right = [u for u in users if zlib.crc32(u.encode()) % PARTITIONS == _lane(u)][:2]
        murmur = [f"m{n}" for n in range(4)]
        name = shop.topic(topics.BEHAVIOUR)
        before = len(await shop.read(topics.BEHAVIOUR))
        for chosen, options in (
            (wrong + right, []),
            (murmur, ["-X", "partitioner=murmur2_random"]),
        ):
            lines = [
                f"{user}\t{json.dumps(event(user, f'ki{at}', at))}\n"
                for at in range(3)
                for user in chosen
            ]
            await _kcat(shop, "-P", "-t", name, "-K", "\t", *options, given="".join(lines))
        await shop.settled()

        records = (await shop.read(topics.BEHAVIOUR))[before:]
        passed = [r for r in await shop.read(topics.BEHAVIOUR) if _origin(r) is not None]
        assert Counter(r.key.decode() for r in passed) == dict.fromkeys(wrong, 3)
        assert all(r.partition == _lane(r.key.decode()) for r in passed)
        assert len({_origin(r) for r in passed}) == len(passed)
        assert records
        for user in wrong + right + murmur:
            assert await shop.user(user) == {key_of(f"ki{at}"): 1 for at in range(3)}
        lists = Counter(each["user_id"] for each in await shop.lists())
        assert {user: lists[user] for user in wrong + right + murmur} == dict.fromkeys(
            wrong + right + murmur, 3
        )
        told = await _kcat(
            shop, "-C", "-t", shop.topic(topics.RECOMMENDATIONS), "-e", "-q", "-o", "beginning",
            "-X", "isolation.level=read_committed",
        )  # fmt: skip
        assert {json.loads(line)["user_id"] for line in told.splitlines()} >= {*wrong, *murmur}

    @pytest.mark.parametrize(
        "partitions", [PARTITIONS, 12]
    )  # of many lanes lists are made together
    async def test_a_killed_worker_changes_nothing(self, new_shop: Any, partitions: int) -> None:
        events = random_events(5, 1500)
        quiet = await new_shop(partitions, WORKER__CHUNK_EVENTS_MAX="40")
        killed = await new_shop(partitions, WORKER__CHUNK_EVENTS_MAX="40")
        calm = quiet.start()
        worker = killed.start()
        await asyncio.gather(calm.until_ready(), worker.until_ready())
        sent = await killed.produce_events(events[:500])
        for part in (events[500:1000], events[1000:]):
            begun = len(await killed.lists())
            sent += await killed.produce_events(part)

            async def look(begun: int = begun) -> bool:
                return len(await killed.lists()) > begun

            await until(look, "a list in mid-stream")
            worker.kill()
            worker = killed.start()
        await quiet.produce_events(events)
        await worker.until_ready()
        await asyncio.gather(killed.settled(), quiet.settled())

        assert await events_in_state(killed) == events_by_user(events)
        assert await killed.digests() == await quiet.digests()
        await until_newest_are_answered(killed, events, sent)
        assert_lists_are_unique(await killed.lists())

    async def test_what_a_client_wrote_by_hand_loses_and_stops_nothing(self, new_shop: Any) -> None:
        """A broker takes these; each could end every worker, or have others' events passed over."""
        shop = await new_shop(1)
        worker = shop.start()
        await worker.until_ready()

        def event_of(user: str, place: int, attributes: int = 0) -> bytes:
            value = json.dumps(event(user, "ai1")).encode()
            return raw_record(place, key=user.encode(), value=value, attributes=attributes)

        bomb = raw_record(0, value=bytes(2 * UNPACKED_BYTES_MAX))
        for batch in (
            raw_batch(event_of("far", 1_000), base=0, time_ms=NOW_MS),
            raw_batch(event_of("odd", 0, attributes=0x80), base=0, time_ms=NOW_MS),
            raw_batch(bomb, compress=(ZSTD, cramjam.zstd.compress), base=0, time_ms=NOW_MS),
        ):
            assert await shop.produce_batch(topics.BEHAVIOUR, 0, batch) == 0
        await shop.produce_events([event(f"u{n}", f"ai{n % 5}", n) for n in range(50)])

        async def answered() -> bool:
            return {"far", "odd", "u0", "u49"} <= {each["user_id"] for each in await shop.lists()}

        await until(answered, "lists of all who sent something")
        assert len(await shop.lists()) == 52
        (letter,) = await shop.dead_letters()
        assert b"unpacks to more than" in letter.value
        assert worker.process.poll() is None

    async def test_another_application_goes_on_where_the_state_stands(self, new_shop: Any) -> None:
        shop = await new_shop()
        await shop.produce_events(random_events(8, 200))
        worker = shop.start()
        await worker.until_ready()
        await shop.settled()
        await worker.stop()
        before = await shop.digests()
        renamed = shop.start(APPLICATION=f"{shop.prefix}-renamed")
        await renamed.until_ready()
        await renamed.stop()
        assert await shop.digests() == before

    async def test_workers_come_and_go(self, new_shop: Any) -> None:
        shop = await new_shop(WORKER__CHUNK_EVENTS_MAX="40")
        events = random_events(6, 2500)
        sent: list[Any] = []
        done = asyncio.Event()

        async def feed() -> None:
            for first in range(0, len(events), 20):
                sent.extend(await shop.produce_events(events[first : first + 20]))
                await asyncio.sleep(0 if done.is_set() else 0.2)

        first, second = shop.start(data="one"), shop.start(data="two")
        await asyncio.gather(first.until_ready(), second.until_ready())
        await self._share(first, second)
        feeding = asyncio.create_task(feed())
        third = shop.start(data="three")
        await third.until_ready()
        await self._share(first, second, third)
        code, _ = await first.stop()
        assert code == 0, first.log[-4000:]
        await self._share(second, third)
        done.set()
        await feeding
        await shop.settled()

        assert second.process.poll() is None
        assert third.process.poll() is None
        assert await events_in_state(shop) == events_by_user(events)
        await until_newest_are_answered(shop, events, sent)
        assert_lists_are_unique(await shop.lists())
        items = await shop.items()
        counted = items.tables["popularity"]["events"]
        for item, count in Counter(e["item_id"] for e in events).items():
            assert counted[items.find(item)] == count

    async def _share(self, *workers: WorkerProcess) -> None:
        async def look() -> bool:
            lanes = [await worker.lanes() for worker in workers]
            together = [lane for each in lanes for lane in each]
            return all(lanes) and sorted(together) == list(range(PARTITIONS))

        await until(look, "every lane to have one owner, and every worker a lane")

    async def test_it_stops_when_told_and_says_why_it_cannot_start(self, new_shop: Any) -> None:
        shop = await new_shop()
        worker = shop.start()
        seen = {(await asyncio.to_thread(worker.health))[0]}
        await worker.until_ready()
        status, body = await asyncio.to_thread(worker.health)
        assert status == 200
        assert body["ready"] is True
        assert (await asyncio.to_thread(worker.health, "live"))[0] == 200
        assert seen <= {0, 503}

        async def logged() -> bool:
            return "worker.ready" in worker.log

        await until(logged, "worker.ready in the log")
        await shop.produce_events(random_events(7, 2000))
        code, took_s = await worker.stop()
        assert code == 0, worker.log[-4000:]
        assert took_s < STOP_S
        assert "Traceback" not in worker.log

        nowhere = Shop(shop.bootstrap, f"{shop.prefix}-none", shop.folder / "none")
        lost = nowhere.start()
        assert await lost.exit_code() == 1
        assert "topics create" in lost.log
        assert "Traceback" not in lost.log


def _lane(user: str) -> int:
    return partition_of(user.encode(), PARTITIONS)


def _origin(record: Any) -> bytes | None:
    return dict(record.headers).get(HEADER_ORIGIN)


async def _kcat(shop: Shop, *arguments: str, given: str = "") -> str:
    done = await asyncio.to_thread(
        subprocess.run,
        ["kcat", "-b", shop.bootstrap, *arguments],
        input=given, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


def bad_events(user: str) -> Iterator[tuple[str, str, Record]]:
    """Every kind of record that breaks the contract: the reason, the field, the record."""
    key = user.encode()

    def body(**changes: Any) -> Record:
        return Record(key, json.dumps(event(user, "i1") | changes).encode())

    def without(name: str) -> Record:
        fields = event(user, "i1")
        del fields[name]
        return Record(key, json.dumps(fields).encode())

    whole = json.dumps(event(user, "i1")).encode()
    yield "not-json", "body", Record(key, b"view u1 i1")
    yield "not-json", "body", Record(key, whole[:-1])
    yield "missing", "body", Record(key, None)
    yield "missing", "body", Record(key, b"")
    yield "type", "body", Record(key, b"[1, 2]")
    for name in ("user_id", "item_id", "type", "timestamp"):
        yield "missing", name, without(name)
    yield "type", "item_id", body(item_id=7)
    yield "type", "timestamp", body(timestamp={"at": 1})
    yield "type", "value", body(value="many")
    yield "range", "value", body(value=math.nan)
    yield "range", "value", body(value=math.inf)
    yield "range", "value", body(value=-1)
    yield "range", "value", body(value=1e300)
    yield "id", "item_id", body(item_id="")
    yield "id", "item_id", body(item_id="x" * 5000)
    yield "id", "item_id", body(item_id="a\x00b")
    yield "id", "event_id", body(event_id="")
    yield "timestamp", "timestamp", body(timestamp="0001-01-01T00:00:00Z")
    yield "timestamp", "timestamp", body(timestamp="9999-12-31T23:59:59Z")
    yield "timestamp", "timestamp", body(timestamp=1_700_000_000)
    yield "timestamp", "timestamp", body(timestamp="yesterday")
    yield "unknown-type", "type", body(type="stare")
    yield "too-large", "body", body(context={"note": "x" * 70_000})
    yield "key", "key", Record(None, whole)
    yield "key", "key", Record(b"", whole)
    yield "key", "key", Record(b"someone-else", whole)
    yield "key", "key", Record(b"\xff\xfe", whole)
    yield "encoding", "item_id", Record(key, whole.replace(b"i1", b"\xff1"))
    yield "missing", "type", Record(key, b'{"user_id":"%s","item_id":"i"}' % key, (("h", b"\x00"),))
