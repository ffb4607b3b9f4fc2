"""`recsys evaluate`: how good the served lists are on a log, beside every single method."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from recsys.commands.common import (
    CommandError,
    JsonOption,
    print_json,
    print_table,
    progress_bar,
    say,
    settings,
)
from recsys.commands.produce import LimitOption, MapOption, TimeUnitOption, open_log

if TYPE_CHECKING:
    from recsys.evaluate import Outcome
    from recsys.evaluation_log import EvaluationLog
    from recsys.evaluation_store import Store
    from recsys.evaluation_variants import Entry, ListLog
    from recsys.log import BehaviourLog

ROWS_A_STEP = 500  # between two looks at the progress bar
SECONDS_MAX = 1e10
PICTURES = (".png", ".svg", ".pdf")
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def evaluate(
    files: Annotated[list[Path], typer.Argument(metavar="LOG...", help="Behaviour logs.")],
    protocol: Annotated[
        Literal["new", "repeat"],
        typer.Option(help="new: what the user had is left out of lists and answers."),
    ] = "new",
    methods: Annotated[
        str | None, typer.Option(help="Methods to run, comma-separated.", show_default="all")
    ] = None,
    catalogue: Annotated[
        Path | None, typer.Option(help="Products; each is listed right after its first event.")
    ] = None,
    catalogue_mapping: Annotated[
        str, typer.Option("--map-catalogue", metavar="field=COLUMN,...", help="As --map, for it.")
    ] = "",
    warm_up: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the log that is not scored.")
    ] = 0.2,
    sync: Annotated[
        str, typer.Option(help="How far learning lags, e.g. 0s,1m,1h,1d: one run each.")
    ] = "0s",
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="Length of the lists.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Order of users that share a timestamp.")] = 0,
    variants: Annotated[
        str,
        typer.Option(
            metavar="FILE,...",
            help="Settings files to compare with the settings as they are: over all users, and "
            "each over the users that a hash gives it.",
        ),
    ] = "",
    lists: Annotated[
        Path | None,
        typer.Option(help="Write the served lists here (.jsonl), each by its user's variant."),
    ] = None,
    counterfactual: Annotated[
        Path | None,
        typer.Option(
            metavar="LISTS",
            help="Lists that were shown (.jsonl, as from --lists or `recsys recommendations "
            "--json`): what each variant would have earned on them, by IPS, SNIPS and DR.",
        ),
    ] = None,
    horizon: Annotated[
        str, typer.Option(help="With --counterfactual: an answer comes within this time.")
    ] = "1d",
    picture: Annotated[
        Path | None, typer.Option(help="Draw the curves into this file (.svg, .png).")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what an earlier, cut-off run finished.")
    ] = False,
    mapping: MapOption = "",
    time_unit: TimeUnitOption = None,
    limit: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict, score, learn, in the order of events, with full ranking over all known items.

    The served pipeline (`recsys`) beside single methods, each tuned on the log's warm-up. All
    events of one user with one timestamp are predicted before any of them is learned.
    """
    from recsys import evaluation_report, evaluation_variants
    from recsys.evaluation_log import answers_of
    from recsys.evaluation_methods import SERVED, method_names
    from recsys.evaluation_store import Store

    lags_s = list(dict.fromkeys(_seconds(text) for text in sync.split(",")))
    _refuse_outputs(lists, picture, lags_s)
    repeats = protocol == "repeat"
    files_of_variants = [Path(name.strip()) for name in variants.split(",") if name.strip()]
    found = evaluation_variants.entries(settings(), files_of_variants, repeats)
    chosen = [name.strip() for name in methods.split(",")] if methods else method_names(repeats)
    unknown = [name for name in chosen if name not in method_names(repeats)]
    if unknown:
        known = ", ".join(method_names(repeats))
        raise typer.BadParameter(f"no method is called {unknown[0]!r}; there are {known}")
    if lists is not None and SERVED not in chosen:
        raise typer.BadParameter(
            f"--lists writes what {SERVED} serves, which is not among --methods"
        )
    log = _read(files, mapping, time_unit, limit, catalogue, catalogue_mapping, seed)
    if counterfactual is not None:
        _counterfactual(log, counterfactual, found, int(_seconds(horizon) * 1000), as_json)
        return
    answers = answers_of(log, repeats, warm_up)
    if not len(answers):
        raise CommandError("there is nothing to score: no event after the warm-up has a known item")
    wanted = [name for name in chosen if name != SERVED]
    pipelines = found if SERVED in chosen else []
    shown = evaluation_variants.ListLog(lists, found, log.digest) if lists is not None else None
    store = Store(settings().data_dir, log, protocol, warm_up, k)
    reports = []
    for lag_s in lags_s:
        outcomes, skipped = _outcomes(
            pipelines, wanted, log, store, resume, shown,
            {"repeats": repeats, "warm_up": warm_up, "k": k, "lag_ms": int(lag_s * 1000)},
        )  # fmt: skip
        reports.append(
            evaluation_report.report(
                log, answers, outcomes, protocol=protocol, warm_up=warm_up,
                lag_ms=int(lag_s * 1000), skipped=skipped, k=k,
            )
        )  # fmt: skip
        if len(pipelines) > 1:
            rows = evaluation_variants.compared(log, answers, outcomes, pipelines, k)
            reports[-1]["variants"] = rows
    if shown is not None:
        shown.close()
    if as_json:
        first: dict[str, Any] = reports[0]
        print_json(first if len(reports) == 1 else {**first, "sync": reports})
    else:
        for each in reports:
            _show(each, k)
    if picture is not None:  # last: what a picture lacks takes no table with it
        evaluation_report.draw(reports, picture, k)


def _refuse_outputs(lists: Path | None, picture: Path | None, lags_s: Sequence[float]) -> None:
    for written in (lists, picture):
        if written is not None and not written.parent.is_dir():
            raise typer.BadParameter(f"{written} cannot be written: {written.parent} is no folder")
    if picture is not None and picture.suffix not in PICTURES:
        raise typer.BadParameter(f"{picture} ends in none of {', '.join(PICTURES)}")
    if lists is not None and len(lags_s) > 1:
        raise typer.BadParameter("--lists takes one --sync: users see the lists of one lag only")


def _show(each: dict[str, Any], k: int) -> None:
    from recsys import evaluation_report, evaluation_variants
    from recsys.evaluation_methods import UNTUNED

    lines, columns = evaluation_report.rows(each, k)
    lag = f", learning {each['sync_s']:g} s late" if each["sync_s"] else ""
    print_table(
        f"{each['scored']:,} answers of {each['events']:,} events, {each['users']:,} users, "
        f"{each['items']:,} items, protocol {each['protocol']}{lag}",
        lines, columns,
    )  # fmt: skip
    if each["splits"]:
        print_table("By split", *evaluation_report.split_rows(each, k))
    if "variants" in each:
        print_table("Variants", *evaluation_variants.table(each["variants"], k))
    for name, method in each["methods"].items():
        if method["settings"]:
            tuned = not method["settings"].endswith(UNTUNED)
            say(f"{name} {'was tuned to' if tuned else 'has'} {method['settings']}")
    for name, why in each["skipped"].items():
        say(f"{name} was left out: {why}")


def _counterfactual(
    log: "EvaluationLog", file: Path, found: "Sequence[Entry]", horizon_ms: int, as_json: bool
) -> None:
    from recsys import counterfactual

    lists = counterfactual.read_lists(file)
    decisions = counterfactual.shown(log, lists, horizon_ms)
    earned = sum(decisions.rewards) / max(len(decisions.rewards), 1)
    estimates = {}
    for entry in found:
        with progress_bar(len(log), shown=True) as update:
            estimates[entry.name] = counterfactual.estimates(
                log, lists, decisions, entry.config, partial(_tell, update, entry.name), entry.rules
            )
    whole = {"lists": len(lists), "shown": len(decisions.items), "earned": earned,
             "variants": estimates}  # fmt: skip
    if as_json:
        print_json(whole)
        return
    columns = ["variant", "IPS", "SNIPS", "DR", "support"]
    lines = [
        {
            "variant": name, "support": f"{each['support']:.3f}",
            **{column: _interval(each[column.lower()]) for column in columns[1:4]},
        }
        for name, each in estimates.items()
    ]  # fmt: skip
    print_table(
        f"Answers an item shown: {earned:.5f} as logged, {len(lists):,} lists", lines, columns
    )


def _interval(estimate: dict[str, Any]) -> str:
    if estimate["low"] is None:
        return f"{estimate['value']:.5f}"
    return f"{estimate['value']:.5f} ({estimate['low']:.5f} to {estimate['high']:.5f})"


def _read(
    files: Sequence[Path], mapping: str, time_unit: Any, limit: int | None,
    catalogue: Path | None, catalogue_mapping: str, seed: int,
) -> "EvaluationLog":  # fmt: skip
    from recsys.evaluation_log import build, read_events
    from streams.events import Product

    events: list[Any] = []
    for file in files:
        rows = open_log(file, mapping, time_unit)
        for note in rows.notes:
            say(note)
        left = None if limit is None else limit - len(events)
        with progress_bar(rows.size_bytes, shown=True) as update:
            found, refused = read_events(_told(rows, update), left)
        if refused:
            say(f"{refused} rows of {file.name} were refused; `recsys produce --dry-run` tells why")
        events += found
    products: list[Product] = []
    if catalogue is not None:
        rows = open_log(catalogue, catalogue_mapping, None, catalogue=True)
        for note in rows.notes:
            say(note)
        found_products = [product for _, product in rows]
        products = [product for product in found_products if isinstance(product, Product)]
        if refused := len(found_products) - len(products):
            say(
                f"{refused} products of {catalogue.name} were refused; `recsys produce --catalogue "
                "--dry-run` tells why"
            )
    return build(events, seed, products)


def _told(rows: "BehaviourLog", update: Any) -> Iterator[tuple[int, Any]]:
    for count, row in enumerate(rows, 1):
        if count % ROWS_A_STEP == 0:
            update(rows.position(), f"{rows.path.name}: {count} rows")
        yield row


def _outcomes(
    pipelines: "Sequence[Entry]", baselines: Sequence[str], log: "EvaluationLog", store: "Store",
    resume: bool, shown: "ListLog | None", how: dict[str, Any],
) -> "tuple[dict[str, Outcome], dict[str, str]]":  # fmt: skip
    """Each pipeline's and each baseline's outcome, and why a baseline has none."""
    from recsys import evaluation_store
    from recsys.evaluation_methods import TooManyPairsError
    from recsys.evaluation_methods import evaluate as evaluate_method
    from recsys.pipeline import PipelineConfig

    outcomes: dict[str, Outcome] = {}
    skipped: dict[str, str] = {}
    runs: list[tuple[str, Entry | None]] = [(each.method, each) for each in pipelines]
    for name, entry in [*runs, *((name, None) for name in baselines)]:
        kept = store.path(name, how["lag_ms"], entry)
        keep = shown.of(entry) if shown is not None and entry is not None else None
        finished = evaluation_store.load(kept) if resume and keep is None else None
        if finished is not None:
            outcomes[name] = finished
            continue
        with progress_bar(len(log), shown=True) as update:
            try:
                outcomes[name] = evaluate_method(
                    name, log, config=entry.config if entry is not None else PipelineConfig(),
                    rules=entry.rules if entry is not None else (), keep=keep,
                    progress=partial(_tell, update, name), **how,
                )  # fmt: skip
            except (TooManyPairsError, ImportError) as error:  # River comes with `--group dev`
                skipped[name] = str(error)
                continue
        evaluation_store.save(kept, outcomes[name])
    return outcomes, skipped


def _tell(update: Any, name: str, done: int) -> None:
    update(done, name)


def _seconds(text: str) -> float:
    number, unit = text.strip()[:-1], text.strip()[-1:]
    try:
        seconds = float(number) * UNITS_S[unit]
    except (KeyError, ValueError):
        seconds = -1.0
    if not 0.0 <= seconds <= SECONDS_MAX:
        raise typer.BadParameter(f"{text!r} is no time; as in 0s,1m,1h,1d")
    return seconds
