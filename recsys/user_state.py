"""The state of a lane's users: integers alone, so that equal events give equal bytes.

Rows in arrays with a byte format of their own, a transaction that can be taken back, records for
the compacted log, snapshots, a digest. What follows from other partitions is computed when asked.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import history
from models.columns import NONE, Slots, Table
from models.history import ENTRIES_MAX, HEAD_COLUMNS, PAGE_COLUMNS, PAGE_SIZE
from recsys import impressions, state_format
from recsys.ids import UserIds
from recsys.impressions import Impressions
from recsys.item_state import ItemState
from recsys.state_format import Record, StateError
from recsys.user_history import UserHistory

DAY_S = 86_400
SWEEP_EVENTS = 4_096  # users are looked through for the inactive once in so many events of a lane
SURPLUS_SHARE = 64  # where there are too many users, one in so many more goes with the surplus
FOREVER_S = 2**32
LANE_KEY = b"\xff\xff"


@dataclass(frozen=True)
class StateLimits:
    """Bounds of the user state.

    Args:
        entries_max: distinct items remembered a user; the one touched longest ago gives way.
        inactive_days_max: users without an event for so many whole days (UTC, counted back from
            the lane's newest event) go.
        users_max: of more users than this, those longest inactive go.
    """

    entries_max: int = 2_048
    inactive_days_max: int = 400
    users_max: int = 5_000_000

    def __post_init__(self) -> None:
        if not history.RECENT_SIZE <= self.entries_max <= ENTRIES_MAX:
            raise ValueError(f"entries_max must lie in {history.RECENT_SIZE}..{ENTRIES_MAX}")


class UserState:
    """Everything known of the users of one lane."""

    def __init__(self, items: ItemState, limits: StateLimits | None = None) -> None:
        self.items = items
        self.limits = limits or StateLimits()
        self.ids = UserIds()
        self.heads = Table(HEAD_COLUMNS)
        self.pages = Table(PAGE_COLUMNS)
        self.shown = Impressions()
        self.lane = np.zeros(2, np.int64)  # events applied, newest event in seconds
        self._lane_before = self.lane.copy()
        self._tombstones: list[bytes] = []
        self._silent_s = 0  # nobody's last event is before it; 0 where that is not known
        self.chain: Slots = np.empty(self.limits.entries_max // PAGE_SIZE + 2, np.int32)

    def __len__(self) -> int:
        """Users that have a slot."""
        return len(self.ids)

    @property
    def events_applied(self) -> int:
        """Events of this lane that counted, ever."""
        return int(self.lane[0])

    def find(self, user_id: str) -> int:
        """Slot of a user, -1 where nothing is known."""
        return self.ids.find(user_id)

    def slot(self, user_id: str) -> int:
        """Slot of a user, an empty one where nothing is known."""
        slot = self.ids.find(user_id)
        if slot == NONE:
            slot = self.heads.allocate()
            self.ids.add(user_id, slot)
        return slot

    def history(self, slot: int) -> UserHistory:
        """A user's items: copies, so that they stay as they are. Slot -1 has none."""
        if slot == NONE:
            return UserHistory.empty(0, 0)
        room = UserHistory.empty(int(self.heads["entries"][slot]))
        filled, newest = history.read_history(
            slot, self.heads.rows, self.pages.rows, room.items, room.first_s, room.last_s,
            room.counts, room.weights, room.types, room.recent,
        )  # fmt: skip
        return room.between(slice(filled), slice(newest))

    def see_impressions(
        self, users: Slots, items: Slots, shown: NDArray[np.bool_], answers: NDArray[np.bool_],
        times_s: NDArray[np.uint32],
    ) -> None:  # fmt: skip
        """Events in their order: what was `shown`, and what acts on an item.

        All have shape (n,); an event may be neither.
        """
        if not len(self.shown) and not shown.any():
            return
        for at in np.flatnonzero(shown | answers).tolist():
            user, item = int(users[at]), int(items[at])
            if shown[at]:
                self.shown.see(user, item, int(times_s[at]))
            else:
                self.shown.answer(user, item)

    # -- transactions ----------------------------------------------------------------------------

    def begin(self) -> None:
        """Open a transaction. Raises RuntimeError where one is open."""
        self.heads.begin()
        self.pages.begin()
        self.shown.begin()
        self.ids.begin()
        self._lane_before = self.lane.copy()
        self._tombstones.clear()

    def commit(self) -> None:
        """Keep what was learned since `begin`."""
        self.heads.commit()
        self.pages.commit()
        self.shown.commit()
        self.ids.commit()
        self._tombstones.clear()

    def rollback(self) -> None:
        """Put everything back as it was at `begin`, byte for byte."""
        self.ids.rollback()
        self.heads.rollback()
        self.pages.rollback()
        self.shown.rollback()
        self.lane[:] = self._lane_before
        self._silent_s = 0
        self._tombstones.clear()

    # -- records of the log ----------------------------------------------------------------------

    def dirty_records(self) -> list[Record]:
        """What the open transaction changed, as records of the compacted log."""
        if not self.heads.open:
            raise RuntimeError("no transaction is open")
        records = self._records(self.heads.dirty(), self.pages.dirty(), self.shown.dirty())
        alive = {key for key, _ in records}
        records += [(key, None) for key in dict.fromkeys(self._tombstones) if key not in alive]
        return records

    def records(self) -> list[Record]:
        """All of it, as records of the compacted log."""
        heads = self.ids.slots()
        pages = np.arange(self.pages.size, dtype=np.int32)
        return self._records(heads, pages, self.shown.rows())

    def _records(self, heads: Slots, pages: Slots, shown: Slots) -> list[Record]:
        keys = self.items.ids.keys
        name = self.ids.name
        heads = heads[self.heads["events"][heads] > 0]
        pages = pages[self.pages["user"][pages] != NONE]
        version = bytes([state_format.VERSION])
        records: list[Record] = [(LANE_KEY, version + self.lane.astype("<i8").tobytes())]
        records += [
            (name(slot).encode() + b"\0\0", version + row)
            for slot, row in zip(heads.tolist(), self.heads.encode(heads), strict=True)
        ]
        records += [
            (name(user).encode() + struct.pack(">H", number + 1), version + row)
            for user, number, row in zip(
                self.pages["user"][pages].tolist(), self.pages["number"][pages].tolist(),
                self.pages.encode(pages, keys), strict=True,
            )
        ]  # fmt: skip
        return records + self.shown.records(shown, keys, name, version)

    def load_record(self, key: bytes, value: bytes | None) -> None:
        """Take back one record of the log. Raises StateError where it cannot be read."""
        self.load_records([(key, value)])

    def load_records(self, records: Iterable[Record]) -> None:
        """Take back records in the order of the log, later ones over earlier ones.

        Raises:
            StateError: an unknown version, or bytes of a wrong length.
        """
        heads: dict[int, bytes] = {}
        pages: dict[int, bytes] = {}
        self._silent_s = 0
        for key, value in records:
            if key == LANE_KEY:
                if value is not None:
                    self.lane[:] = np.frombuffer(state_format.body("lane", value), "<i8")
                continue
            user_id, number = key[:-2].decode(), struct.unpack(">H", key[-2:])[0]
            if value is None:
                self._decode(heads, pages)
                self._drop(user_id, number)
            elif number == impressions.NUMBER:
                self._load_shown(user_id, state_format.body("shown", value))
            elif number:
                self._room_for_chains(number)
                pages[self._page(self.slot(user_id), number - 1)] = state_format.body("page", value)
            else:
                heads[self.slot(user_id)] = state_format.body("head", value)
        self._decode(heads, pages)

    def _decode(self, heads: dict[int, bytes], pages: dict[int, bytes]) -> None:
        try:
            for table, rows in ((self.heads, heads), (self.pages, pages)):
                slots = np.fromiter(rows, np.int32, len(rows))
                table.touch(slots)
                table.decode(slots, list(rows.values()), self.items.slots_of_keys)
                rows.clear()
        except ValueError as error:
            raise StateError(str(error)) from error

    def _load_shown(self, user_id: str, packed: bytes) -> None:
        try:
            self.shown.load(self.slot(user_id), packed, self.items.slots_of_keys)
        except ValueError as error:
            raise StateError(str(error)) from error

    def _room_for_chains(self, pages: int) -> None:
        """Users may have more pages than the limit allows now: it was larger once."""
        if pages >= len(self.chain):  # one more may follow
            self.chain = np.empty(2 * pages, np.int32)

    def _page(self, slot: int, number: int) -> int:
        """The page of a number in a user's chain; missing ones before it are made blank."""
        before, page = NONE, int(self.heads["first_page"][slot])
        for at in range(number + 1):
            if page == NONE:
                page = self.pages.allocate()
                self.pages.touch(np.array([page], np.int32))
                self.pages["user"][page] = slot
                self.pages["number"][page] = at
                owner, column = (
                    (self.heads, "first_page") if before == NONE else (self.pages, "next")
                )
                link = slot if before == NONE else before
                owner.touch(np.array([link], np.int32))
                owner[column][link] = page
            if at < number:
                before, page = page, int(self.pages["next"][page])
        return page

    def _drop(self, user_id: str, number: int) -> None:
        slot = self.find(user_id)
        if slot == NONE:
            return
        if number == 0:
            self._remove(slot)
            return
        if number == impressions.NUMBER:
            self.shown.forget(slot)
            return
        chain = self._chain(slot)
        if number <= len(chain):
            self.pages.free(np.array(chain[number - 1 :], np.int32))
            if number == 1:
                self.heads["first_page"][slot] = NONE
            else:
                self.pages["next"][chain[number - 2]] = NONE

    def _chain(self, slot: int) -> list[int]:
        chain, page = [], int(self.heads["first_page"][slot])
        while page != NONE:
            chain.append(page)
            page = int(self.pages["next"][page])
        return chain

    # -- forgetting ------------------------------------------------------------------------------

    def count(self, applied: int, times_s: NDArray[np.uint32]) -> None:
        """Note events of these times, some of which were applied."""
        first_s = last_s = int(times_s[0])  # one alone, where lists are made after each event
        if len(times_s) > 1:
            first_s, last_s = int(times_s.min()), int(times_s.max())
        self.lane[0] += applied
        self.lane[1] = max(int(self.lane[1]), last_s)
        self._silent_s = min(self._silent_s, first_s)

    def sweep(self, awaited: Slots) -> int:
        """Forget inactive users; slots in `awaited` keep their id, empty. Returns how many went.

        Inactive are those without an event on the last `inactive_days_max` whole days; of too many
        users a few more than need be go, so that it is not always time to look at all of them.
        """
        limits = self.limits
        since_s = (int(self.lane[1]) // DAY_S - limits.inactive_days_max) * DAY_S
        if self._silent_s >= since_s and len(self.ids) <= limits.users_max:
            return 0
        known = self.ids.slots()
        last_s = self.heads["last_s"][known].astype(np.int64)
        silent = last_s < since_s
        gone, rest, rest_s = known[silent], known[~silent], last_s[~silent]
        if len(rest) > limits.users_max:
            surplus = len(rest) - limits.users_max + limits.users_max // SURPLUS_SHARE
            gone = np.concatenate([gone, self._longest_silent(rest, rest_s, surplus)])
        kept = set(awaited.tolist())
        for slot in gone.tolist():
            self._remove(slot, keep_id=slot in kept)
        self._silent_s = int(rest_s.min(initial=FOREVER_S))
        return len(gone)

    def _longest_silent(self, slots: Slots, last_s: NDArray[np.int64], count: int) -> Slots:
        """Those `count` users whose last event is longest ago; of equals the first by id."""
        limit_s = np.partition(last_s, count - 1)[count - 1]
        before, at = slots[last_s < limit_s], slots[last_s == limit_s].tolist()
        named = sorted(at, key=self.ids.name)[: count - len(before)]
        return np.concatenate([before, np.array(named, np.int32)])

    def token(self, user_id: str) -> int:
        """What items know a user by; 0: not at all."""
        slot = self.find(user_id)
        return 0 if slot == NONE else int(self.heads["token"][slot])

    def forget(self, user_id: str, until_s: int) -> bool:
        """Forget a user whose events, or some of them, lie at or before a second; whether one did.

        A user who is all newer came back since, and stays. Of others what is newer goes too: their
        sums cannot be taken apart.
        """
        slot = self.find(user_id)
        if slot == NONE or int(self.heads["first_s"][slot]) > until_s:
            return False
        self._remove(slot)
        return True

    def _remove(self, slot: int, keep_id: bool = False) -> None:
        chain = self._chain(slot)
        name = self.ids.name(slot).encode()
        if self.shown.forget(slot) and self.heads.open:
            self._tombstones.append(name + struct.pack(">H", impressions.NUMBER))
        if self.heads.open and self.heads["events"][slot]:
            self._tombstones += [
                name + struct.pack(">H", number) for number in range(len(chain) + 1)
            ]
        self.pages.free(np.array(chain, np.int32))
        if keep_id:
            self.heads.touch(np.array([slot], np.int32))
            self.heads.clear(np.array([slot], np.int32))
        else:
            self.ids.remove(slot)
            self.heads.free(np.array([slot], np.int32))

    # -- the whole -------------------------------------------------------------------------------

    def digest(self) -> str:
        """Fingerprint of all users, whatever their slots: equal logs give equal digests."""
        total = 0
        for key, value in self.records():
            assert value is not None
            record = struct.pack(">I", len(key)) + key + value
            total += int.from_bytes(hashlib.blake2b(record, digest_size=16).digest(), "little")
        return f"{total % 2**128:032x}"

    def snapshot(self) -> dict[str, Any]:
        """Arrays and lists that `restore` takes back, in this process or another."""
        slots = self.ids.slots()
        return {
            "version": np.array([state_format.VERSION], np.int64),
            "lane": self.lane.copy(),
            "users": [self.ids.name(slot) for slot in slots.tolist()],
            "user_slots": slots,
            "item_keys": self.items.ids.keys.copy(),
            **state_format.prefixed("heads", self.heads.snapshot()),
            **state_format.prefixed("pages", self.pages.snapshot()),
            **state_format.prefixed("shown", self.shown.snapshot()),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Replace everything by a snapshot.

        Raises:
            StateError: the snapshot is of another version or shape.
        """
        state_format.check_version(snapshot)
        try:
            self.heads.restore(state_format.unprefixed("heads", snapshot))
            self.pages.restore(state_format.unprefixed("pages", snapshot))
            # Slots of items differ from process to process; keys do not.
            now = self.items.slots_of_keys(np.asarray(snapshot["item_keys"], np.uint64))
            self.shown.restore(state_format.unprefixed("shown", snapshot), now)
        except ValueError as error:
            raise StateError(str(error)) from error
        self.lane[:] = snapshot["lane"]
        self._silent_s = 0
        self._room_for_chains(int(self.pages["number"].max(initial=0)) + 1)
        self.ids = UserIds()
        for user_id, slot in zip(snapshot["users"], snapshot["user_slots"].tolist(), strict=True):
            self.ids.add(str(user_id), slot)
        items = self.pages["item"]
        if len(now):
            items[:] = np.where(items == NONE, NONE, now[items])

    def memory(self) -> dict[str, int]:
        """Bytes held and users known, for people and metrics."""
        return {
            "users": len(self), "pages": len(self.pages), "head_bytes": self.heads.row_bytes,
            "page_bytes": self.pages.row_bytes,
            "bytes": self.heads.memory_bytes + self.pages.memory_bytes
            + self.shown.table.memory_bytes,
        }  # fmt: skip
