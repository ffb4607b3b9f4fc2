"""Sequence rules: what tends to follow the last three items (Ludewig and Jannach 2018, SR)."""

from models.base import Query, Scores
from models.columns import Slots, Table
from models.item_knn import PairConfig, PairModel

LAST_ITEMS = 3
LAST_DECAY = 0.5
CONFIG = PairConfig(
    neighbours=24, positions=LAST_ITEMS, position_decay=LAST_DECAY, both_ways=False,
    conditional=True,
)  # fmt: skip


class Sequence(PairModel):
    """Transitions from each of the last three items to the next; read from the last three."""

    def __init__(self, config: PairConfig = CONFIG) -> None:
        super().__init__("sequence", config)

    def recommend(
        self, table: Table, query: Query, conditional: bool | None = None
    ) -> tuple[Slots, Scores]:
        """What followed the query's newest items, by the share of what followed them."""
        return super().recommend(table, self._newest(query), conditional)

    def carriers(
        self, table: Table, query: Query, items: Slots, conditional: bool | None = None
    ) -> Slots:
        """The newest item that each of `items` follows most."""
        return super().carriers(table, self._newest(query), items, conditional)

    def _newest(self, query: Query) -> Query:
        items = query.items[: self.config.positions]
        return Query(
            items, self._position_weights[: len(items)], query.ages_s[: len(items)], query.clock,
            query.usable, query.limit,
        )  # fmt: skip
