"""What a person sees of the demo: progress, users' lists as they change, a table at the end."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from streams.events import RankedList

if TYPE_CHECKING:
    from recsys.demo import Quality

SHOWN_ITEMS = 5
REFRESH_S = 0.25


class DemoView:
    """Draws the demo; on a terminal it moves, elsewhere it prints what stays."""

    def __init__(self, *, plain: bool = False) -> None:
        self.console = Console(force_terminal=False if plain else None)

    def say(self, sentence: str) -> None:
        """One line."""
        self.console.print(sentence, highlight=False)

    def fail(self, sentence: str) -> None:
        """Why the demo ends early."""
        self.console.print(f"[red]The demo could not go on:[/] {escape(sentence)}", highlight=False)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Something that takes a few seconds."""
        begun = time.perf_counter()
        with self.console.status(what):
            yield
        self.say(f"{what}: {time.perf_counter() - begun:.1f} s")

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar; call what is yielded with how much is done."""
        begun = time.perf_counter()
        with _bar(self.console) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)
        self.say(f"{what}: {time.perf_counter() - begun:.1f} s")

    @contextmanager
    def watching(
        self, title: str, total: int, users: Sequence[str], titles: Mapping[str, str]
    ) -> Iterator[Callable[[int, Mapping[str, RankedList]], None]]:
        """A bar, and the newest lists of some users beneath it."""
        bar = _bar(self.console)
        task = bar.add_task(title, total=total)
        drawn_at = 0.0
        newest: Mapping[str, RankedList] = {}
        with Live(bar, console=self.console, auto_refresh=False, transient=True) as live:

            def show(done: int, lists: Mapping[str, RankedList]) -> None:
                nonlocal drawn_at, newest
                newest = lists
                if time.perf_counter() - drawn_at > REFRESH_S and self.console.is_terminal:
                    drawn_at = time.perf_counter()
                    bar.update(task, completed=done)
                    live.update(Group(bar, _panels(users, lists, titles)), refresh=True)

            yield show
        self.say(f"{title}: {total:,} events")
        self.console.print(_panels(users, newest, titles))

    def result(
        self, *, events: int, past: int, past_s: float, live: int, live_s: float, lists: int,
        live_lists: int, unanswered: int, freshness_ms: Sequence[float], quality: "Quality",
    ) -> None:  # fmt: skip
        """The table at the end."""
        table = Table(title="What happened", show_header=False, title_justify="left")
        table.add_column(style="bold")
        table.add_column()
        table.add_row("events in", f"{events:,}")
        table.add_row("lists out", f"{lists:,}")
        table.add_row(
            "replay, as fast as it goes",
            f"{past / past_s:,.0f} events/s ({past:,} in {past_s:.1f} s)",
        )
        table.add_row(
            "live", f"{live / live_s:,.0f} events/s, {live_lists:,} lists for {live:,} events"
        )
        p50_ms, p99_ms = _percentile(freshness_ms, 50), _percentile(freshness_ms, 99)
        fresh = f"p50 {p50_ms:.0f} ms, p99 {p99_ms:.0f} ms"
        table.add_row("freshness, produced to list readable", fresh)
        if unanswered:
            table.add_row("not answered", f"[red]{unanswered:,} events[/]")
        for name, label in (("recsys", "the lists as served"), ("popularity", "popularity")):
            table.add_row(
                f"HR@10, NDCG@10 of {label}",
                f"{quality.hit_rate(name):.4f}, {quality.ndcg(name):.4f}",
            )
        self.console.print(table)
        self.say(
            f"Predict, then learn: {quality.scored:,} purchases of the live part, each scored "
            "against the list its user had before."
        )


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console,
    )  # fmt: skip


def _panels(
    users: Sequence[str], lists: Mapping[str, RankedList], titles: Mapping[str, str]
) -> RenderableType:
    panels: list[Any] = []
    for user in users:
        ranked = lists.get(user)
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(justify="right", style="dim", no_wrap=True, min_width=2)
        table.add_column(max_width=34, no_wrap=True)
        table.add_column(style="dim", max_width=44, no_wrap=True)
        for item in ranked.items[:SHOWN_ITEMS] if ranked else []:
            table.add_row(str(item.rank), titles.get(item.item_id) or item.item_id, item.reason)
        state = f"after event {ranked.trigger.offset:,}" if ranked else "no list yet"
        panels.append(Panel(table, title=f"user {user}, {state}", title_align="left"))
    return Columns(panels)


def _percentile(values: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile of sorted values; 0 where there are none."""
    if not values:
        return 0.0
    return values[min(len(values) - 1, int(len(values) * percent / 100))]
