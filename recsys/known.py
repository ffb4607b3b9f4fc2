"""What is known of one user or one item, and why an item is recommended, read from the topics.

The same state and the same models as in a worker, filled from the compacted topics; nothing is
written.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from models.base import Query
from models.columns import NONE, Slots
from recsys.photos import Photo
from recsys.removed import reason_of, removed
from recsys.settings import Settings
from recsys.sources import Learned
from recsys.speakers import Reading
from recsys.user_history import UserHistory
from recsys.user_lane import UserLane
from recsys.user_state import UserState
from recsys.wanted import OWN
from recsys.worker import Worker
from streams import admin, topics
from streams.chunk import Position
from streams.events import EVENT_TYPES, RankedList
from streams.newest import newest_record
from streams.partition import partition_of
from streams.state_log import restore

READINGS_SHOWN = ("knn-long", "knn-short", "sequence")  # that differ for a single item
NEIGHBOURS_SHOWN = 10
USED_FOR = {
    "counts": "to tell new users from old ones when ranking",
    "shown": "to show less of what you were shown and did not act on; it fades",
    "history": "to recommend what goes with it, and to leave out or bring back what was had",
    "profile": "to find items alike; computed when asked, never stored",
    "photos": "to recommend what looks alike and to move the profile; they fade",
    "newest_list": "kept for the shop; nothing is learned from it",
}
_NO_EVENTS: dict[str, Any] = {  # of who has sent photos alone
    "first": None, "last": None, "counts": {}, "profile": [], "shown": [], "history": [],
}  # fmt: skip
_READ = (
    topics.CATALOGUE,
    topics.ITEM_STATE,
    topics.ITEM_FACTORS,
    topics.USER_STATE,
    topics.RECOMMENDATIONS,
)


class Known:
    """Item state, catalogue and models as the topics have them now; users on request."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._worker = Worker(settings, ())
        self.items = self._worker.items
        self.catalogue = self._worker.catalogue
        self.pipeline = self._worker.pipeline
        self.lanes = settings.partitions

    async def load(self) -> None:
        """Read catalogue, item state and factors to their end. Raises AdminError."""
        given = self.settings
        names = [topic.name(given.own_prefix if topic in OWN else given.prefix) for topic in _READ]
        found = await admin.find_topics(self._worker.connection, names)
        for name in names:
            if name not in found:
                raise admin.AdminError(f"{name} is missing: recsys topics create")
        self.lanes = found[topics.USER_STATE.name(self.settings.own_prefix)].partitions
        await self._worker.tail.start()
        try:
            await self._worker.tail.catch_up()
        finally:
            await self._worker.tail.stop()

    async def users(self, lane: int, only: str | None = None) -> UserState:
        """The users of a lane, or one of them."""
        return (await self._lane(lane, only)).users

    async def _lane(self, lane: int, only: str | None) -> UserLane:
        held = UserLane(UserState(self.items))
        stem = only.encode() if only is not None else b""

        def load(records: list[Any]) -> None:
            held.load_records(
                (record.key, record.value)
                for record in records
                if only is None or record.key[:-2] == stem  # two bytes tell which of its records
            )

        topic = topics.USER_STATE.name(self.settings.own_prefix)
        await restore(self._worker.connection, Position(topic, lane), load)
        return held

    async def newest_list(self, user_id: str) -> RankedList | None:
        """The newest list that was written for a user."""
        topic = topics.RECOMMENDATIONS.name(self.settings.prefix)
        record = await newest_record(self._worker.connection, topic, user_id.encode())
        if record is None or record.value is None:
            return None
        return msgspec.json.decode(record.value, type=RankedList)

    async def of_user(self, user_id: str) -> dict[str, Any] | None:
        """Everything known of a user, as plain data; None for a stranger."""
        lane = partition_of(user_id.encode(), self.lanes)
        held = await self._lane(lane, user_id)
        users, photo = held.users, held.photos.newest(user_id)
        slot = users.find(user_id)
        events = 0 if slot == NONE else int(users.heads["events"][slot])
        if not events and photo is None:
            return None
        newest = await self.newest_list(user_id)
        return {
            "user_id": user_id,
            "lane": lane,
            "events_applied": events,
            **(self._by_events(users, slot) if events else _NO_EVENTS),
            "photos": None if photo is None else _of_photos(photo),
            "profile_version": self.pipeline.model_version,
            "used_for": USED_FOR,
            "newest_list": None if newest is None else msgspec.to_builtins(newest),
        }

    def _by_events(self, users: UserState, slot: int) -> dict[str, Any]:
        past = users.history(slot)
        return {
            "first": _moment(users.heads["first_s"][slot]),
            "last": _moment(users.heads["last_s"][slot]),
            "counts": _counts(users.heads["counts"][slot]),
            "profile": self._profile(past),
            "shown": [
                {"item_id": self.items.ids.names[item], "times": times, "last": _moment(last_s)}
                for item, times, last_s in users.shown.of(slot)
            ],
            "history": list(self._history(past)),
        }

    def of_item(self, item_id: str) -> dict[str, Any] | None:
        """Everything known of an item, as plain data; None where nothing is."""
        slot = self.items.find(item_id)
        if slot == NONE:
            return None
        self.catalogue.reserve()
        table = self.items.tables["popularity"]
        price = float(self.catalogue.price[slot])
        return {
            "item_id": item_id,
            "title": self.catalogue.titles.get(slot),
            "listed": bool(self.catalogue.listed[slot]),
            "available": bool(self.catalogue.available[slot]),
            "category": _name(self.catalogue.categories.names, self.catalogue.category[slot]),
            "brand": _name(self.catalogue.brands.names, self.catalogue.brand[slot]),
            "price": None if np.isnan(price) else round(price, 6),
            "events": int(table["events"][slot]),
            "users": int(table["users"][slot]),
            "counts": _counts(table["counts"][slot]),
            "first": _moment(table["first_s"][slot]),
            "last": _moment(table["last_s"][slot]),
            "audience": int((self.items.tables["audience"]["user"][slot] > 0).sum()),
            "goes_with": self._goes_with(slot),
        }

    async def why(self, user_id: str, item_id: str) -> dict[str, Any] | None:
        """Why an item is, or would be, recommended to a user; None for a stranger or no item."""
        slot = self.items.find(item_id)
        users = await self.users(partition_of(user_id.encode(), self.lanes), user_id)
        user = users.find(user_id)
        if NONE in (slot, user):
            return None
        newest = await self.newest_list(user_id)
        listed = [item for item in newest.items if item.item_id == item_id] if newest else []
        past = users.history(user)
        now_ms = int(users.heads["last_s"][user]) * 1000
        mine = np.flatnonzero(past.items == slot)
        return {
            "user_id": user_id,
            "item_id": item_id,
            "title": self.catalogue.title(slot),
            "had_events": int(past.counts[mine].sum()),
            "in_newest_list": msgspec.to_builtins(listed[0]) if listed else None,
            "left_out": reason_of(self.pipeline, users, user, now_ms, slot, self.settings.rank.k),
            "sources": self._sources_for(users, user, slot, now_ms),
        }

    def _sources_for(
        self, users: UserState, user: int, slot: int, now_ms: int
    ) -> list[dict[str, Any]]:
        """What each source says of an item for a user now: score, place, and the past item."""
        self.catalogue.reserve()
        context = self.pipeline.context_for(users, user, now_ms, 1)
        said = []
        for source in self.pipeline.sources:
            slots, scores = source.candidates(context)
            at = np.flatnonzero(slots == slot)
            if not len(at):
                continue
            score = float(scores[at[0]])
            carry = getattr(source, "carriers", None)
            carrier = NONE
            if carry is not None:
                carrier = int(carry(context, np.array([slot], np.int32))[0])
            said.append(
                {
                    "source": source.name,
                    "score": round(score, 6),
                    "place": int((scores > score).sum()) + 1,
                    "of": len(slots),
                    "because_of": self.items.ids.names[carrier] if carrier != NONE else None,
                }
            )
        return said

    def _history(self, past: UserHistory) -> Iterator[dict[str, Any]]:
        """A user's items, newest first."""
        for at in np.argsort(-past.last_s.astype(np.int64), kind="stable").tolist():
            slot = int(past.items[at])
            types = int(past.types[at])
            yield {
                "item_id": self.items.ids.names[slot] if slot != NONE else None,
                "title": self.catalogue.titles.get(slot),
                "events": int(past.counts[at]),
                "types": [name for bit, name in enumerate(EVENT_TYPES) if types >> bit & 1],
                "weight": round(float(past.weights[at]), 4),
                "first": _moment(past.first_s[at]),
                "last": _moment(past.last_s[at]),
            }

    def _profile(self, past: UserHistory) -> list[float]:
        """The profile vector: a decayed sum over the vectors of the user's newest items."""
        profile = next(m for m in self.items.models if m.name == "profile")
        newest = past.recent[past.weights[past.recent] > 0]
        query = self._query(past.items[newest], np.minimum(past.weights[newest], 1.0))
        vector = profile.user_vector(self.items.tables["profile"], query)  # type: ignore[attr-defined]
        return [round(float(value), 6) for value in vector]

    def _goes_with(self, slot: int) -> dict[str, list[dict[str, Any]]]:
        """Each model's nearest items to one item."""
        query = self._query(np.array([slot], np.int32), np.ones(1, np.float32))
        near = {}
        for source in self.pipeline.sources:
            answer = None
            if isinstance(source, Reading) and source.name in READINGS_SHOWN:
                table = self.items.tables[source.model.name]
                answer = source.model.recommend(table, query, source.channel, source.conditional)
            elif isinstance(source, Learned):
                answer = source.model.recommend(self.items.tables[source.name], query)
            if answer is not None:
                slots, scores = answer
                best = np.argsort(-scores, kind="stable")
                best = best[slots[best] != slot][:NEIGHBOURS_SHOWN]
                near[source.name] = [
                    {
                        "item_id": self.items.ids.names[int(slots[at])],
                        "title": self.catalogue.titles.get(int(slots[at])),
                        "score": round(float(scores[at]), 6),
                    }
                    for at in best.tolist()
                ]
        return near

    def _query(self, slots: Slots, weights: Any) -> Query:
        ages = np.zeros(len(slots), np.float32)
        everything = np.ones(len(self.items), np.bool_)
        return Query(
            slots, weights.astype(np.float32), ages, self.items.clock.now, everything,
            len(self.items),
        )  # fmt: skip

    def ranker(self) -> dict[str, Any]:
        """What the ranker learned: its weights, how good its parts and each source were of late."""
        ranker, features = self.pipeline.rank.ranker, self.pipeline.rank.features
        straight, slope = ranker.weights_by_feature()
        networks, line, *sources = ranker.late.tolist()
        shares = [name.removesuffix(":share") for name in features.names[ranker.sources]]
        return {
            "lists": ranker.lists, "looks": ranker.looks, "steps": ranker.steps,
            "steps_refused": int(ranker.counters[2]),
            "loud": {"line": round(ranker.loud[0], 6), "networks": round(ranker.loud[1], 6)},
            "ndcg_of_late": {
                "networks": round(networks, 6), "line": round(line, 6),
                **{name: round(each, 6) for name, each in zip(shares, sources, strict=True)},
            },
            "features": [
                {
                    "feature": name, "weight": round(float(straight[at]), 6),
                    "slope": round(float(slope[at]), 6),
                    "mean": round(float(ranker.centre[at]), 6),
                    "deviation": round(float(np.sqrt(ranker.spread[at])), 6),
                }
                for at, name in enumerate(features.names)
            ],
        }  # fmt: skip

    async def removed(self, user_id: str) -> list[dict[str, Any]] | None:
        """What the sources found that is not in a user's list, and why; None: a stranger."""
        users = await self.users(partition_of(user_id.encode(), self.lanes), user_id)
        user = users.find(user_id)
        if user == NONE:
            return None
        now_ms = int(users.heads["last_s"][user]) * 1000
        found = removed(self.pipeline, users, user, now_ms, self.settings.rank.k)
        name, title = self.items.ids.names, self.catalogue.title
        return [
            {
                "item_id": name[each.slot], "title": title(each.slot), "place": each.place,
                "reason": each.reason,
            }
            for each in found
        ]  # fmt: skip

    async def sizes(self, progress: Any) -> dict[str, Any]:
        """Users, items and the bytes that each of them takes in memory; reads every lane."""
        users = pages = held = 0
        row: dict[str, int] = {}
        for lane in range(self.lanes):
            state = await self.users(lane)
            row = state.memory()
            users, pages, held = users + row["users"], pages + row["pages"], held + row["bytes"]
            progress(lane + 1, f"{users} users")
        items = self.items.memory()
        rows_bytes = users * row["head_bytes"] + pages * row["page_bytes"]
        return {
            "users": users,
            "pages": pages,
            "user_bytes_each": round(rows_bytes / users, 1) if users else 0.0,
            "user_bytes_head": row["head_bytes"],
            "user_bytes_page_of_16_items": row["page_bytes"],
            "user_bytes_held": held,
            "items": items["items"],
            "item_bytes_each": items["row_bytes"],
            "item_bytes_held": items["bytes"],
        }


def _counts(counts: Any) -> dict[str, int]:
    return {
        name: int(count) for name, count in zip(EVENT_TYPES, counts.tolist(), strict=True) if count
    }


def _of_photos(photo: Photo) -> dict[str, Any]:
    """`association` is the newest photo's cosine to the profile, where it passed the threshold."""
    return {
        "uploads": photo.uploads,
        "last": _moment(photo.time_ms // 1000),
        "encoder": photo.encoder,
        "association": round(photo.association, 4) or None,
    }


def _moment(seconds: Any) -> str | None:
    if not seconds:
        return None
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _name(names: list[str], code: Any) -> str | None:
    return names[int(code)] if int(code) != NONE else None
