"""What one user did: a head row a user, and their distinct items in chained pages of entries.

The head holds counts, the numbers of the newest distinct entries (by their own time, newest
first) and the hashes of recent event ids. A page holds 16 entries; entry `n` lies in page
`n // 16`. Everything is an integer, so equal logs give equal bytes.
"""

from typing import Any

import numpy as np

from models.columns import NONE, Column, touch_row
from models.kernels import kernel

PAGE_SIZE = 16
RECENT_SIZE = 64
CONTEXT_SIZE = 16
EVENT_KEYS_SIZE = 16
WEIGHT_UNIT = 64  # an entry's weight is in 1/64
ORDERS = 1 << 3 | 1 << 4  # purchases and returns, by their places in streams.events.EVENT_TYPES
STAGE_STEPS = 16.0
NO_ENTRY = 65535
ENTRIES_MAX = 32768

HEAD_COLUMNS = (
    Column("event_keys", "<u8", EVENT_KEYS_SIZE),
    Column("events", "<u4"),
    Column("first_s", "<u4"),
    Column("last_s", "<u4"),
    Column("counts", "<u4", 9),
    Column("entries", "<u4"),
    Column("recent", "<u2", RECENT_SIZE, empty=NO_ENTRY),
    Column("key_at", "<u2"),
    Column("token", "<u4"),
    Column("first_page", "<i4", derived=True, empty=NONE),
)
PAGE_COLUMNS = (
    Column("item", "<i4", PAGE_SIZE, refers=True, empty=NONE),
    Column("first_s", "<u4", PAGE_SIZE),
    Column("last_s", "<u4", PAGE_SIZE),
    Column("count", "<u2", PAGE_SIZE),
    Column("weight", "<i2", PAGE_SIZE),
    Column("types", "<u2", PAGE_SIZE),
    Column("next", "<i4", derived=True, empty=NONE),
    Column("user", "<i4", derived=True, empty=NONE),
    Column("number", "<u2", derived=True),
)


@kernel
def apply_events(
    start: int, stop: int, entries_max: int, awaits_look: Any,
    users: Any, items: Any, types: Any, weights: Any, times_s: Any, keys: Any,
    heads: Any, head_marks: Any, head_epoch: Any, head_undo_slots: Any, head_undo_rows: Any,
    head_counters: Any,
    pages: Any, page_marks: Any, page_epoch: Any, page_undo_slots: Any, page_undo_rows: Any,
    page_counters: Any, free_pages: Any, chain: Any,
    tokens: Any, applied: Any, is_new: Any, starts_step: Any, stage: Any, context: Any,
    ages_s: Any, who: Any, nth: Any,
) -> int:  # fmt: skip
    """Apply events [start, stop) in their order; fill what the item side must learn from each.

    Returns where it ended: before an event that `awaits_look` where it would start a step.

    Out, a value an event: `applied` (False: its id was seen), `is_new` (the item is new to the
    user), `starts_step` (no event of this user had this second before), `stage` (how far the user
    had come, see `stage_of`), and up to 16 recent distinct items with positive weight, newest
    first, with their ages: `context`, `ages_s`; the user's token, which is that of `tokens` at
    their first event, and how many events they had before: `who`, `nth`.
    `chain` is room for one user's page slots.
    """
    for e in range(start, stop):
        slot = users[e]
        if awaits_look[e] and (heads[slot].events == 0 or heads[slot].last_s != times_s[e]):
            return e
        touch_row(
            slot, heads, head_marks, head_epoch, head_undo_slots, head_undo_rows, head_counters
        )
        head = heads[slot]
        if keys[e] != 0:
            seen = False
            for j in range(EVENT_KEYS_SIZE):
                if head.event_keys[j] == keys[e]:
                    seen = True
                    break
            if seen:
                applied[e] = False
                continue
            head.event_keys[head.key_at] = keys[e]
            head.key_at = (head.key_at + 1) % EVENT_KEYS_SIZE
        time_s = times_s[e]
        applied[e] = True
        starts_step[e] = head.events == 0 or head.last_s != time_s
        if head.events == 0:
            head.token = tokens[e]
        if head.events == 0 or time_s < head.first_s:
            head.first_s = time_s
        who[e], nth[e] = head.token, head.events
        head.last_s = max(head.last_s, time_s)
        head.events += 1
        head.counts[types[e]] += 1

        item = items[e]
        entries = int(head.entries)
        stage[e] = stage_of(entries)
        found, oldest, oldest_s, length = NONE, 0, np.uint32(0xFFFFFFFF), 0
        page = head.first_page
        while page != NONE:
            chain[length] = page
            for j in range(min(PAGE_SIZE, entries - length * PAGE_SIZE)):
                if pages[page].item[j] == item:
                    found = length * PAGE_SIZE + j
                if pages[page].last_s[j] < oldest_s:
                    oldest_s = pages[page].last_s[j]
                    oldest = length * PAGE_SIZE + j
            length += 1
            page = pages[page].next

        filled = 0
        for j in range(RECENT_SIZE):
            number = int(head.recent[j])
            if number == NO_ENTRY or filled == CONTEXT_SIZE:
                break
            page, at = chain[number // PAGE_SIZE], number % PAGE_SIZE
            other = pages[page].item[at]
            if other != item and pages[page].weight[at] > 0:
                context[e, filled] = other
                then_s = pages[page].last_s[at]
                ages_s[e, filled] = time_s - then_s if time_s > then_s else 0
                filled += 1

        if weights[e] == 0:
            continue
        if found == NONE:
            is_new[e] = True
            if entries < entries_max:
                found = entries
                head.entries = entries + 1
                if found % PAGE_SIZE == 0:
                    if page_counters[1] > 0:
                        page_counters[1] -= 1
                        page = free_pages[page_counters[1]]
                    else:
                        page = page_counters[0]
                        page_counters[0] += 1
                    touch_row(
                        page, pages, page_marks, page_epoch, page_undo_slots, page_undo_rows,
                        page_counters,
                    )  # fmt: skip
                    pages[page].user = slot
                    pages[page].number = length
                    if length == 0:
                        head.first_page = page
                    else:
                        touch_row(
                            chain[length - 1], pages, page_marks, page_epoch, page_undo_slots,
                            page_undo_rows, page_counters,
                        )  # fmt: skip
                        pages[chain[length - 1]].next = page
                    chain[length] = page
            else:
                found = oldest
                _drop_recent(head.recent, found)
        page, at = chain[found // PAGE_SIZE], found % PAGE_SIZE
        touch_row(
            page, pages, page_marks, page_epoch, page_undo_slots, page_undo_rows, page_counters
        )
        entry = pages[page]
        if is_new[e]:
            entry.item[at] = item
            entry.first_s[at] = time_s
            entry.last_s[at] = time_s
            entry.count[at] = 0
            entry.weight[at] = 0
            entry.types[at] = 0
        moves = is_new[e] or time_s >= entry.last_s[at]
        entry.first_s[at] = min(entry.first_s[at], time_s)
        entry.last_s[at] = max(entry.last_s[at], time_s)
        entry.count[at] = min(int(entry.count[at]) + 1, 65535)
        entry.types[at] |= 1 << types[e]
        weight = weight_after(int(entry.weight[at]), int(weights[e]), int(entry.types[at]))
        entry.weight[at] = min(max(weight, -32768), 32767)
        if moves:
            _drop_recent(head.recent, found)
            place = 0
            while place < RECENT_SIZE and head.recent[place] != NO_ENTRY:
                other = int(head.recent[place])
                if pages[chain[other // PAGE_SIZE]].last_s[other % PAGE_SIZE] <= time_s:
                    break
                place += 1
            if place < RECENT_SIZE:
                for j in range(RECENT_SIZE - 1, place, -1):
                    head.recent[j] = head.recent[j - 1]
                head.recent[place] = found
    return stop


@kernel
def weight_after(before: int, weight: int, types: int) -> int:
    """An item's weight after one more event; where it is not above 0 the item is not wanted.

    What is disliked or given back takes back all that was said before, and what then outweighs it
    begins anew. Where orders alone are known, one piece may go back and others stay.
    """
    after = before + weight
    if weight < 0:
        some_stay = types & ~ORDERS == 0 and after >= -weight
        return after if some_stay else min(before, weight)
    return weight if before < 0 <= after else after


@kernel
def stage_of(entries: int) -> int:
    """How far a user has come: their distinct items as a logarithm, in steps of 1/16."""
    return min(255, int(np.rint(STAGE_STEPS * np.log2(1.0 + entries))))


@kernel
def _drop_recent(recent: Any, number: int) -> None:
    at = 0
    while at < RECENT_SIZE and recent[at] != number:
        at += 1
    if at < RECENT_SIZE:
        for j in range(at, RECENT_SIZE - 1):
            recent[j] = recent[j + 1]
        recent[RECENT_SIZE - 1] = NO_ENTRY


@kernel
def entries_of(slots: Any, heads: Any) -> int:
    """How many entries some users have in all; slot -1 has none."""
    entries = 0
    for slot in slots:
        if slot != NONE:
            entries += heads[slot].entries
    return entries


@kernel
def read_history(
    slot: int, heads: Any, pages: Any,
    items: Any, first_s: Any, last_s: Any, counts: Any, weights: Any, types: Any, recent: Any,
) -> tuple[int, int]:  # fmt: skip
    """Copy one user's entries, and the numbers of the newest ones; returns how many of each."""
    head = heads[slot]
    entries = int(head.entries)
    filled = 0
    page = head.first_page
    while page != NONE and filled < entries:
        row = pages[page]
        for j in range(min(PAGE_SIZE, entries - filled)):
            items[filled] = row.item[j]
            first_s[filled] = row.first_s[j]
            last_s[filled] = row.last_s[j]
            counts[filled] = row.count[j]
            weights[filled] = row.weight[j] / np.float32(WEIGHT_UNIT)
            types[filled] = row.types[j]
            filled += 1
        page = row.next
    newest = 0
    for j in range(RECENT_SIZE):
        number = int(head.recent[j])
        if number == NO_ENTRY:
            break
        if number < filled:  # a head may be restored before its pages
            recent[newest] = number
            newest += 1
    return filled, newest


@kernel
def newest_liked(
    own: Any, last_s: Any, own_weights: Any, recent: Any, first: Any, now_s: float,
    position_decay: float, room: int, items: Any, weights: Any, ages_s: Any,
) -> int:  # fmt: skip
    """The items of `first`, then the user's newest with positive weight, up to `room`.

    Returns how many.

    A weight is what the item's events say, at most 1, times `position_decay` per place; the
    user's own speak softly (a tenth) behind `first`.
    """
    count, decay = 0, 1.0
    for slot in first:
        items[count], weights[count], ages_s[count] = slot, decay, 0.0
        count += 1
        decay *= position_decay
    loudness = 0.1 if count > 0 else 1.0
    for n in recent:
        if count >= max(room, len(first)):
            break
        if own_weights[n] > 0.0:
            items[count] = own[n]
            weights[count] = loudness * decay * min(own_weights[n], np.float32(1.0))
            ages_s[count] = max(now_s - last_s[n], 0.0)
            count += 1
            decay *= position_decay
    return count
