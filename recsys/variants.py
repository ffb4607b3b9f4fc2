"""Variants: users split by a stable hash between rules of lists, for comparing them as they serve.

Variants share what is learned, the sources and the ranker; they differ in how a list is made of
the ranked candidates. Two that differ in more than that are two generations.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from recsys.rerank import RerankConfig

DEFAULT = "default"


@dataclass(frozen=True)
class Variant:
    """A named way to make lists, and the share of users who get it."""

    name: str
    share: float
    rerank: RerankConfig


class Variants:
    """Who gets which variant; the users that no share takes get the default.

    Raises:
        ValueError: shares below 0 or above 1 in sum, or a name twice.
    """

    def __init__(self, default: RerankConfig, others: Sequence[Variant] = ()) -> None:
        names = [DEFAULT, *(variant.name for variant in others)]
        shares = [variant.share for variant in others]
        if min(shares, default=0.0) < 0 or sum(shares) > 1 + 1e-9:
            raise ValueError(
                f"shares of variants must be at least 0 and 1 at most in sum: {shares}"
            )
        if len(set(names)) < len(names):
            raise ValueError(f"variants must have names of their own: {', '.join(names)}")
        self.default = Variant(DEFAULT, 1.0 - sum(shares), default)
        self.others = tuple(others)

    def of(self, user_id: str) -> Variant:
        """The variant of a user, the same at every time and in every worker."""
        if not self.others:
            return self.default
        place = place_of(user_id)
        for variant in self.others:
            if place < variant.share:
                return variant
            place -= variant.share
        return self.default


def place_of(key: str, salt: str = "variant") -> float:
    """A number in [0, 1), always the same for a text, as if drawn for it.

    >>> place_of("anna") == place_of("anna") != place_of("anna", "other")
    True
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8, salt=salt.encode()[:16]).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2.0**53
