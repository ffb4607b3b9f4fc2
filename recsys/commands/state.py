"""`recsys state`: what is known of a user or an item, and why it is recommended."""

import logging
from typing import Annotated, Any, Literal

import typer

from recsys.commands.common import (
    CommandError,
    JsonOption,
    print_json,
    print_table,
    progress_bar,
    run,
    say,
    settings,
)
from recsys.settings import Settings

HISTORY_SHOWN = 20
FACTS = {
    "user": ("events_applied", "first", "last", "counts", "lane"),
    "item": ("listed", "available", "category", "brand", "price", "events", "users", "counts",
             "first", "last"),
}  # fmt: skip


def state(
    user: Annotated[str | None, typer.Option(help="What is known of this user.")] = None,
    item: Annotated[
        str | None,
        typer.Option(
            help="What is known of this item; with --user, why it is recommended to them."
        ),
    ] = None,
    removed: Annotated[
        bool,
        typer.Option("--removed", help="With --user: what a list of now does not hold, and why."),
    ] = False,
    what: Annotated[
        Literal["all", "ranker"],
        typer.Argument(
            help="ranker: its weights by feature, and how good each source was of late."
        ),
    ] = "all",
    as_json: JsonOption = False,
) -> None:
    """Show what is kept, as the state topics have it: of a user, an item, the ranker, or in all.

    With both --user and --item: why the item is recommended to the user, or left out. With
    neither: how many users and items there are, and the memory each of them takes.
    """
    if removed and (user is None or item is not None):
        raise typer.BadParameter("--removed needs --user, and no --item")
    data = run(_known(settings(), user, item, as_json, what, removed))
    if as_json:
        print_json(data)
    elif what == "ranker":
        _show_ranker(data)
    elif removed:
        print_table(
            f"Not in a list of now for {user}", data, ["place", "item_id", "title", "reason"]
        )
    elif user is not None and item is not None:
        _show_why(data)
    elif user is not None:
        _show_user(data)
    elif item is not None:
        _show_item(data)
    else:
        print_table("State", [{"what": k, "value": v} for k, v in data.items()], ["what", "value"])


async def _known(
    given: Settings, user: str | None, item: str | None, quiet: bool, what: str, removed: bool
) -> Any:
    import structlog

    from recsys.known import Known

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    known = Known(given)
    await known.load()
    if what == "ranker":
        return known.ranker()
    if user is None and item is None:
        with progress_bar(given.partitions, shown=not quiet, count=True) as update:
            return await known.sizes(update)
    data: Any
    if user is not None and item is not None:
        data = await known.why(user, item)
        missing = f"nothing is known of user {user} and item {item} together"
    elif user is not None:
        data = await (known.removed(user) if removed else known.of_user(user))
        missing = f"nothing is known of user {user}"
    else:
        assert item is not None
        data = known.of_item(item)
        missing = f"nothing is known of item {item}"
    if data is None:
        raise CommandError(missing)
    return data


def _show_user(data: dict[str, Any]) -> None:
    _facts(f"User {data['user_id']}", data, FACTS["user"])
    rows = data["history"][:HISTORY_SHOWN]
    print_table(
        f"History: {len(data['history'])} items, newest first",
        rows, ["item_id", "title", "types", "events", "weight", "last"],
    )  # fmt: skip
    if data["shown"]:
        print_table("Shown and not acted on", data["shown"], ["item_id", "times", "last"])
    if data["photos"] is not None:
        _facts("Photos", data["photos"], ("uploads", "last", "encoder", "association"))
    length = len(data["profile"])
    say(f"The profile vector has {length} numbers, of model {data['profile_version']}.")
    if data["newest_list"] is not None:
        print_table(
            "Newest list", data["newest_list"]["items"], ["rank", "item_id", "score", "reason"]
        )


def _show_item(data: dict[str, Any]) -> None:
    _facts(
        f"Item {data['item_id']}: {data['title'] or 'not in the catalogue'}", data, FACTS["item"]
    )
    for source, near in data["goes_with"].items():
        if near:
            print_table(f"Goes with, by {source}", near, ["item_id", "title", "score"])


def _show_why(data: dict[str, Any]) -> None:
    listed = data["in_newest_list"]
    if listed is None:
        say(f"{data['item_id']} is not in the newest list of {data['user_id']}.")
    else:
        say(
            f"{data['item_id']} is number {listed['rank']} of the newest list of "
            f"{data['user_id']}: {listed['reason']}."
        )
    if data["left_out"] is not None:
        say(f"A list of now leaves it out: {data['left_out']}.")
    say(f"Events of the user with it: {data['had_events']}.")
    print_table(
        "What each source says now",
        data["sources"], ["source", "score", "place", "of", "because_of"],
    )  # fmt: skip


def _show_ranker(data: dict[str, Any]) -> None:
    say(
        f"{data['lists']:,} lists learned in {data['steps']:,} steps, of {data['looks']:,} looked"
        " at: the others' candidates did not hold what the user then chose. "
        f"{data['steps_refused']:,} steps refused. Its line counts {data['loud']['line']:.2f}, its "
        f"networks {data['loud']['networks']:.2f}."
    )
    of_late = sorted(data["ndcg_of_late"].items(), key=lambda each: -each[1])
    print_table(
        "NDCG@10 of late, on lists before they were learned",
        [{"by": name, "ndcg": f"{value:.4f}"} for name, value in of_late], ["by", "ndcg"],
    )  # fmt: skip
    rows = sorted(data["features"], key=lambda row: -abs(row["slope"]))
    print_table(
        "Features in standard units, the heaviest first",
        rows, ["feature", "weight", "slope", "mean", "deviation"],
    )  # fmt: skip


def _facts(title: str, data: dict[str, Any], names: tuple[str, ...]) -> None:
    rows = []
    for name in names:
        value = data[name]
        if isinstance(value, dict):
            value = ", ".join(f"{key} {count}" for key, count in value.items())
        rows.append({"what": name, "value": value})
    print_table(title, rows, ["what", "value"])
