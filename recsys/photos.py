"""What users' photos say of them: one vector a user, the newest photos loudest.

A record of the lane's state log beside the user's rows, and for those alone who uploaded. The
vector is a decayed sum: at each upload the older one is weighed by 2^(-age / half-life), they
are added, and the length is brought back to 1 (only its direction is used).
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

SUFFIX = b"\xff\xfd"  # after the user's id
VERSION = 1
_HEAD = struct.Struct("<BqIfH")
DAY_MS = 86_400_000

Change = tuple[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class Photo:
    """A user's photos as one vector: of which encoder, as of when (epoch ms), how many.

    `association` is the cosine of the newest photo, mapped into the profile space, and the user's
    profile, where it passed the threshold; else 0.
    """

    encoder: str
    time_ms: int
    uploads: int
    vector: NDArray[np.float32]  # (dim,), length 1
    association: float = 0.0
    weight: float = 1.0
    category: str = ""  # of the photo that a list answers


class Photos:
    """The photos of a lane's users, with a journal so that a round can be taken back."""

    def __init__(self, half_life_days: float = 3.0, users_max: int = 100_000) -> None:
        self._half_life_ms = half_life_days * DAY_MS
        self._users_max = users_max
        self._photos: dict[str, Photo] = {}
        self._undo: list[tuple[str, Photo | None]] = []
        self._changed: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._photos)

    def begin(self) -> None:
        """Start a round."""
        self._undo.clear()
        self._changed.clear()

    def commit(self) -> None:
        """Keep the round's changes."""
        self.begin()

    def rollback(self) -> None:
        """Take the round's changes back."""
        for user_id, before in reversed(self._undo):
            if before is None:
                self._photos.pop(user_id, None)
            else:
                self._photos[user_id] = before
        self.begin()

    def see(
        self,
        user_id: str,
        encoder: str,
        time_ms: int,
        vector: NDArray[np.float32],
        association: float = 0.0,
    ) -> Photo:
        """A user has uploaded a photo with this vector (dim,)."""
        before = self._photos.get(user_id)
        total, uploads = vector.astype(np.float32), 1
        if before is not None and before.encoder == encoder and len(before.vector) == len(vector):
            # the one that is newer is whole, whichever came first
            late = np.float32(self._weight(before.time_ms - time_ms))
            total = total * late + before.vector * np.float32(self._faded(before, time_ms))
            uploads += before.uploads
            time_ms = max(time_ms, before.time_ms)
        length = float(np.linalg.norm(total))
        # What is kept is what is logged, so that a restored lane goes on from the same numbers.
        kept = (total / np.float32(length or 1.0)).astype(np.float16).astype(np.float32)
        photo = Photo(encoder, time_ms, uploads, kept, association)
        self._put(user_id, photo)
        while len(self._photos) > self._users_max:
            self.forget(next(iter(self._photos)))
        return photo

    def of(self, user_id: str, now_ms: int, encoder: str) -> Photo | None:
        """A user's photos, weighed by their age; None without any that still count."""
        photo = self._photos.get(user_id)
        if photo is None or photo.encoder != encoder:
            return None
        weight = self._faded(photo, now_ms)
        if weight < 1 / 64:
            return None
        return replace(photo, weight=weight)

    def newest(self, user_id: str) -> Photo | None:
        """A user's photos as they stood at the last upload, of whatever encoder."""
        return self._photos.get(user_id)

    def forget(self, user_id: str) -> None:
        """Remove all that is known of a user's photos."""
        if user_id in self._photos:
            self._undo.append((user_id, self._photos.pop(user_id)))
            self._changed[user_id] = None

    def sweep(self, before_ms: int, is_known: Callable[[str], bool]) -> None:
        """Remove the photos of users who are not known any more, and sent none since a time."""
        for user_id, photo in list(self._photos.items()):
            if photo.time_ms < before_ms and not is_known(user_id):
                self.forget(user_id)

    def _faded(self, photo: Photo, now_ms: int) -> float:
        return self._weight(now_ms - photo.time_ms)

    def _weight(self, age_ms: int) -> float:
        return float(2.0 ** (-max(age_ms, 0) / self._half_life_ms))

    def _put(self, user_id: str, photo: Photo) -> None:
        self._undo.append((user_id, self._photos.pop(user_id, None)))
        self._photos[user_id] = photo  # at the end: the one seen longest ago gives way first
        self._changed[user_id] = None

    def dirty_records(self) -> list[Change]:
        """The round's changes, as records of the state log."""
        return [(user_id.encode() + SUFFIX, self._encode(user_id)) for user_id in self._changed]

    def snapshot(self) -> list[Change]:
        """All of it, as records."""
        return [(user_id.encode() + SUFFIX, self._encode(user_id)) for user_id in self._photos]

    def _encode(self, user_id: str) -> bytes | None:
        photo = self._photos.get(user_id)
        if photo is None:
            return None
        name = photo.encoder.encode()
        head = _HEAD.pack(VERSION, photo.time_ms, photo.uploads, photo.association, len(name))
        return head + name + photo.vector.astype("<f2").tobytes()

    def load_records(self, records: Iterable[Change]) -> None:
        """Take back records whose keys end in SUFFIX. Raises ValueError for an unknown version."""
        for key, value in records:
            user_id = key[: -len(SUFFIX)].decode()
            self._photos.pop(user_id, None)
            if value is not None:
                version, time_ms, uploads, association, length = _HEAD.unpack_from(value)
                if version != VERSION:
                    raise ValueError(f"photos of version {version}, this reads {VERSION}")
                start = _HEAD.size + length
                vector = np.frombuffer(value[start:], "<f2").astype(np.float32)
                encoder = value[_HEAD.size : start].decode()
                self._photos[user_id] = Photo(encoder, time_ms, uploads, vector, association)
