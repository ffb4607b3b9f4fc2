"""Every client of ours on an Apache Kafka with TLS, SCRAM, mutual TLS and tokens."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import recsys
from models import classical
from recsys import acls
from recsys.promotion import promote
from recsys.settings import Settings
from recsys.wanted import find_wanted
from streams import admin, permissions, producer, topics
from streams.chunk import Position, Record
from streams.connection import Connection
from streams.events import HEADER_UPLOAD_ID
from streams.partition import partition_of
from streams.producer import BatchProducer, ProduceError
from streams.security import Security
from streams.state_log import restore
from streams.transaction import LaneProducer
from tests.e2e.harness import PARTITIONS, Shop, until
from tests.e2e.test_main_job import event
from tests.guarded_kafka import USERS, GuardedKafka, grant, open_guarded, revoke, unsigned_token

SAMPLE = Path(recsys.__file__).parent / "sample" / "clothing"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:
    with open_guarded(tmp_path_factory.mktemp("guarded")) as guarded:
        yield guarded


@pytest.fixture
def shop(guarded: GuardedKafka, tmp_path: Path, prefix: str) -> Iterator[Shop]:
    """A shop whose workers come by SCRAM over TLS, as a user who may do everything."""
    password_file = tmp_path / "password"
    password_file.write_text(USERS["admin"])
    settings = {
        "BROKER": guarded.address("SECURE"),
        "SECURITY__MECHANISM": "SCRAM-SHA-512",
        "SECURITY__USERNAME": "admin",
        "SECURITY__PASSWORD_FILE": str(password_file),
        "SECURITY__CA_FILE": str(guarded.ca_file),
    }
    shop = Shop(guarded.bootstrap, prefix, tmp_path / "shop", settings=settings)
    asyncio.run(shop.create())
    yield shop
    asyncio.run(shop.remove())


def logins(guarded: GuardedKafka) -> dict[str, Connection]:
    """One connection a way to log in."""
    token_file = guarded.folder / "token"
    token_file.write_text(unsigned_token("admin"))
    ca_file = str(guarded.ca_file)
    return {
        "scram": Connection(
            guarded.address("SECURE"),
            Security("SCRAM-SHA-512", "admin", USERS["admin"], ca_file=ca_file),
        ),
        "mutual": Connection(
            guarded.address("MUTUAL"), Security(ca_file=ca_file, cert_file=str(guarded.cert_file))
        ),
        "token": Connection(
            guarded.address("TOKENS"),
            Security("OAUTHBEARER", ca_file=ca_file, token_file=str(token_file)),
        ),
    }


@pytest.mark.parametrize("way", ["scram", "mutual", "token"])
async def test_each_client_gets_in(guarded: GuardedKafka, prefix: str, way: str) -> None:
    connection = logins(guarded)[way]
    wanted = admin.wanted_topics(prefix, 1, 1, 1)
    assert len(await admin.create_topics(connection, wanted)) == len(wanted)
    name = topics.BEHAVIOUR.name(prefix)

    async def known() -> bool:
        return name in await admin.find_topics(connection, [name])

    await until(known, "the topics")
    async with BatchProducer(connection, name) as sender:
        sender.add(b"u1", b"one")
    lane = LaneProducer(connection, f"{prefix}-0")
    await lane.start()
    await lane.commit({Position(name, 0): [Record(b"u1", b"two")]}, {}, prefix)
    await lane.stop()
    seen: list[Any] = []
    await restore(connection, Position(name, 0), seen.extend)
    assert [record.value for record in seen] == [b"one", b"two"]


@pytest.mark.parametrize("way", ["scram", "mutual", "token"])
async def test_nobody_gets_in_without(
    guarded: GuardedKafka, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "START_TIMEOUT_S", 5.0)
    right = logins(guarded)[way]
    ca_file = str(guarded.ca_file)
    token_file = tmp_path / "token"
    token_file.write_text("not-a-token")
    wrong = {
        "scram": Security("SCRAM-SHA-512", "admin", "wrong-s3cret", ca_file=ca_file),
        "mutual": Security(ca_file=ca_file),
        "token": Security("OAUTHBEARER", ca_file=ca_file, token_file=str(token_file)),
    }[way]
    for security in (wrong, Security(tls=True)):  # the system trusts no authority of ours
        with pytest.raises(ProduceError, match="no Kafka answers") as refused:
            await BatchProducer(Connection(right.bootstrap, security), "any").start()
        assert "wrong-s3cret" not in str(refused.value)
        assert "not-a-token" not in str(refused.value)


async def test_a_worker_over_tls_and_scram(shop: Shop) -> None:
    worker = shop.start()
    await worker.until_ready()
    events = [event(f"u{at % 5}", f"i{at % 3}", at) for at in range(40)]
    await shop.produce_events(events)
    await shop.settled()
    assert len(await shop.lists()) == len(events)
    code, _ = await worker.stop()
    assert code == 0, worker.log[-4000:]
    assert USERS["admin"] not in worker.log


def test_the_commands_log_in_too_and_tell_no_secret(shop: Shop) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    environ |= {f"RECSYS_{name}": value for name, value in shop.settings.items()}
    environ |= {"RECSYS_PREFIX": shop.prefix, "RECSYS_PARTITIONS": str(PARTITIONS)}
    del environ["RECSYS_SECURITY__PASSWORD_FILE"]
    environ["RECSYS_SECURITY__PASSWORD"] = USERS["admin"]

    def recsys(*arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "recsys", *arguments], env=environ | changes,
            cwd=shop.folder.parent, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    checked = recsys("topics", "check", "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout) == {"differences": []}
    shown = recsys("config", "--json")
    assert json.loads(shown.stdout)["security"]["password"] == "********"
    assert json.loads(shown.stdout)["security"]["username"] == "admin"
    bare = recsys("topics", "list", RECSYS_SECURITY__CA_FILE="")
    assert bare.returncode == 1
    assert "allow_plaintext_credentials" in bare.stderr
    wrong = recsys("topics", "list", RECSYS_SECURITY__PASSWORD="wrong-" + USERS["admin"])
    assert wrong.returncode == 1
    assert "no Kafka answers" in wrong.stderr
    assert "Authentication failed" in wrong.stderr
    for told in (checked, shown, bare, wrong):
        assert USERS["admin"] not in told.stdout + told.stderr


async def allow(shop: Shop, rules: list[permissions.Permission], change: Any) -> None:
    """Grant the user `worker` these rules, or revoke them."""
    for rule in rules:
        await change(shop.bootstrap, "User:worker", rule)


def as_worker(tmp_path: Path) -> dict[str, str]:
    """The settings by which a worker logs in as that user."""
    password_file = tmp_path / "password-of-worker"
    password_file.write_text(USERS["worker"])
    return {
        "SECURITY__USERNAME": "worker",
        "SECURITY__PASSWORD_FILE": str(password_file),
    }


class TestAclsOfImages:
    """The same for who reads photos."""

    ROLES = ("images",)

    @pytest.fixture
    def rules(self, shop: Shop) -> Iterator[list[permissions.Permission]]:
        rules = acls.permissions(Settings(prefix=shop.prefix, application=shop.prefix), self.ROLES)
        asyncio.run(allow(shop, rules, grant))
        yield rules
        asyncio.run(allow(shop, rules, revoke))

    async def test_they_suffice_and_one_fewer_is_named(
        self, shop: Shop, rules: list[permissions.Permission], tmp_path: Path
    ) -> None:
        pytest.importorskip("imagehash")
        encoder = classical.perceptual_hash(tmp_path)
        given = {
            **as_worker(tmp_path),
            "IMAGES__ENCODER": "perceptual-hash",
            "IMAGES__ENCODER_ID": encoder.id,
        }
        worker = shop.start(roles=self.ROLES, **given)
        await worker.until_ready()
        good, bad = (SAMPLE / "uploads" / "hat-01.jpg").read_bytes(), b"no picture"
        await shop.produce(topics.PRODUCT_IMAGES, [Record(b"i1", good), Record(b"i2", bad)])
        uploads = [
            Record(user, photo, [(HEADER_UPLOAD_ID, user)])
            for user, photo in ((b"u1", good), (b"u2", bad))
        ]
        await shop.produce(topics.IMAGE_UPLOADS, uploads)

        async def answered() -> bool:
            counts = [
                len(await shop.read(topic))
                for topic in (topics.IMAGE_EMBEDDINGS, topics.ITEM_EMBEDDINGS)
            ]
            letters = [
                len(await shop.dead_letters(topic))
                for topic in (topics.IMAGE_UPLOADS, topics.PRODUCT_IMAGES)
            ]
            return counts == [1, 1] and letters == [1, 1]

        await until(answered, f"the photos to be read\n{worker.log[-2000:]}")
        assert (await worker.stop())[0] == 0, worker.log[-4000:]
        assert "uthorization" not in worker.log

        for taken in [rule for rule in rules if rule.operation == "WRITE"]:
            await revoke(shop.bootstrap, "User:worker", taken)
        worker = shop.start(roles=self.ROLES, **given)
        assert await worker.exit_code() == 1
        for taken in [rule for rule in rules if rule.operation == "WRITE"]:
            assert taken.sentence in worker.log


class TestAcls:
    """The user `worker` has the rules of `recsys topics acls` and no others."""

    ROLES = ("behaviour", "items")

    @pytest.fixture
    def rules(self, shop: Shop) -> Iterator[list[permissions.Permission]]:
        rules = acls.permissions(Settings(prefix=shop.prefix, application=shop.prefix), self.ROLES)
        asyncio.run(allow(shop, rules, grant))
        yield rules
        asyncio.run(allow(shop, rules, revoke))

    async def test_they_suffice(self, shop: Shop, rules: Any, tmp_path: Path) -> None:
        worker = shop.start(roles=self.ROLES, **as_worker(tmp_path))
        await worker.until_ready()
        events = [event(f"u{at % 5}", f"i{at % 3}", at) for at in range(40)]
        await shop.produce_events(events)
        await shop.produce(topics.BEHAVIOUR, [Record(b"u1", b"broken")])
        await shop.settled()
        assert len(await shop.lists()) == len(events)
        assert len(await shop.dead_letters()) == 1
        assert (await worker.stop())[0] == 0, worker.log[-4000:]
        assert "uthorization" not in worker.log

    async def test_they_suffice_for_a_generation_with_a_mirror(
        self, shop: Shop, rules: list[permissions.Permission], tmp_path: Path
    ) -> None:
        mine = Settings(
            broker=shop.bootstrap, prefix=shop.prefix, application=shop.prefix, generation="wide",
            partitions=PARTITIONS + 3,
        )  # fmt: skip
        await allow(shop, rules, revoke)
        rules[:] = acls.permissions(mine, self.ROLES, PARTITIONS)
        await allow(shop, rules, grant)
        await admin.create_topics(Connection(shop.bootstrap), await find_wanted(mine))
        given = {"GENERATION": "wide", "PARTITIONS": str(mine.partitions)}
        worker = shop.start(roles=self.ROLES, **as_worker(tmp_path), **given)
        await worker.until_ready()
        await promote(mine, "wide", lag_max=0)
        events = [event(f"u{at % 5}", f"i{at % 3}", at) for at in range(40)]
        await shop.produce_events(events)
        home = partition_of(b"u1", PARTITIONS)
        astray = Record(b"u1", json.dumps(event("u1", "i1")).encode())
        await shop.produce(topics.BEHAVIOUR, [astray], (home + 1) % PARTITIONS)
        await shop.produce(topics.BEHAVIOUR, [Record(b"u1", b"broken")])

        async def answered() -> bool:
            return len(await shop.lists()) > len(events) and len(await shop.dead_letters()) == 1

        await until(answered, f"all to be answered\n{worker.log[-2000:]}")
        assert (await worker.stop())[0] == 0, worker.log[-4000:]
        assert "uthorization" not in worker.log

        mirror = f"{shop.prefix}.wide-mirror"
        taken = [rule for rule in rules if rule.name.startswith(mirror)]
        taken += [
            rule for rule in rules
            if rule.name == topics.BEHAVIOUR.name(mine.own_prefix) and rule.operation == "WRITE"
        ]  # fmt: skip
        assert len(taken) == 3
        await allow(shop, taken, revoke)
        worker = shop.start(roles=self.ROLES, **as_worker(tmp_path), **given)
        assert await worker.exit_code() == 1
        for rule in taken:
            assert rule.sentence in worker.log

    async def test_each_of_them_is_needed_and_named(
        self, shop: Shop, rules: list[permissions.Permission], guarded: GuardedKafka, tmp_path: Path
    ) -> None:
        connection = Connection(
            guarded.address("SECURE"),
            Security("SCRAM-SHA-512", "worker", USERS["worker"], ca_file=str(guarded.ca_file)),
        )
        names = [each.name for each in admin.wanted_topics(shop.prefix, PARTITIONS, 1, 1)]
        assert await permissions.missing(connection, rules, names) == []
        for rule in rules:
            await revoke(shop.bootstrap, "User:worker", rule)
            assert await permissions.missing(connection, rules, names) == [rule]
            await grant(shop.bootstrap, "User:worker", rule)

        taken = next(r for r in rules if r.name == shop.topic(topics.RECOMMENDATIONS))
        await revoke(shop.bootstrap, "User:worker", taken)
        worker = shop.start(roles=self.ROLES, **as_worker(tmp_path))
        assert await worker.exit_code() == 1
        assert f"does not allow WRITE on topic {taken.name}" in worker.log
        assert "Traceback" not in worker.log

    @pytest.mark.parametrize("topic", [topics.RECOMMENDATIONS, topics.CATALOGUE])
    async def test_one_that_is_taken_away_at_work_ends_the_worker(
        self, shop: Shop, rules: list[permissions.Permission], tmp_path: Path, topic: Any
    ) -> None:
        """One to write what lanes say, and one to read what every worker follows."""
        worker = shop.start(roles=("behaviour",), **as_worker(tmp_path))
        await worker.until_ready()
        operation = "READ" if topic is topics.CATALOGUE else "WRITE"
        taken = next(r for r in rules if r.name == shop.topic(topic) and r.operation == operation)
        await revoke(shop.bootstrap, "User:worker", taken)
        await shop.produce_events([event("u1", "i1")])
        assert await worker.exit_code() == 1
        assert taken.name in worker.log
        assert "does not allow" in worker.log
