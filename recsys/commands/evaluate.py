"""`recsys evaluate`: how good the served lists are on a log, beside every single method."""

import hashlib
import json
from collections.abc import Sequence
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
    seed: Annotated[int, typer.Option(help="Order of users that share a timestamp.")] = 0,
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
    from recsys import evaluation_report
    from recsys.evaluation_log import answers_of
    from recsys.evaluation_methods import method_names

    repeats = protocol == "repeat"
    wanted = methods.split(",") if methods else method_names(repeats)
    unknown = [name for name in wanted if name not in method_names(repeats)]
    if unknown:
        known = ", ".join(method_names(repeats))
        raise typer.BadParameter(f"no method is called {unknown[0]!r}; there are {known}")
    lags_s = [_seconds(text) for text in sync.split(",")]
    log = _read(files, mapping, time_unit, limit, catalogue, catalogue_mapping, seed)
    answers = answers_of(log, repeats, warm_up)
    if not len(answers):
        raise CommandError("there is nothing to score: no event after the warm-up has a known item")
    folder = settings().data_dir / "evaluations" / _name(log, protocol, warm_up, k)
    reports = []
    for lag_s in lags_s:
        outcomes, skipped = _outcomes(
            wanted, log, folder, resume,
            {"repeats": repeats, "warm_up": warm_up, "k": k, "lag_ms": int(lag_s * 1000)},
        )  # fmt: skip
        reports.append(
            evaluation_report.report(
                log, answers, outcomes, protocol=protocol, warm_up=warm_up,
                lag_ms=int(lag_s * 1000), skipped=skipped, k=k,
            )
        )  # fmt: skip
    if picture is not None:
        evaluation_report.draw(reports, picture, k)
    if as_json:
        first: dict[str, Any] = reports[0]
        print_json(first if len(reports) == 1 else {**first, "sync": reports})
        return
    for each in reports:
        lines, columns = evaluation_report.rows(each, k)
        lag = f", learning {each['sync_s']:g} s late" if each["sync_s"] else ""
        print_table(
            f"{each['scored']:,} answers of {each['events']:,} events, {each['users']:,} users, "
            f"{each['items']:,} items, protocol {protocol}{lag}",
            lines, columns,
        )  # fmt: skip
        if each["splits"]:
            print_table("By split", *evaluation_report.split_rows(each, k))
        for name, method in each["methods"].items():
            if method["settings"]:
                say(f"{name} was tuned to {method['settings']}")
        for name, why in each["skipped"].items():
            say(f"{name} was left out: {why}")


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
        found, refused = read_events(iter(rows), None if limit is None else limit - len(events))
        if refused:
            say(f"{refused} rows of {file.name} were refused; `recsys produce --dry-run` tells why")
        events += found
    products: list[Product] = []
    if catalogue is not None:
        products = [
            product
            for _, product in open_log(catalogue, catalogue_mapping, None, catalogue=True)
            if isinstance(product, Product)
        ]
    return build(events, seed, products)


def _outcomes(
    wanted: Sequence[str], log: "EvaluationLog", folder: Path, resume: bool, how: dict[str, Any]
) -> "tuple[dict[str, Outcome], dict[str, str]]":
    from recsys.evaluation_methods import TooManyItemsError
    from recsys.evaluation_methods import evaluate as evaluate_method
    from recsys.pipeline import PipelineConfig
    from recsys.rerank import RerankConfig

    config = PipelineConfig(rerank=RerankConfig(repeats=how["repeats"]))
    outcomes: dict[str, Outcome] = {}
    skipped: dict[str, str] = {}
    for name in wanted:
        kept = folder / f"{name}-{how['lag_ms']}.npz"
        if resume and kept.is_file():
            outcomes[name] = _load(kept)
            continue
        with progress_bar(len(log), shown=True) as update:
            try:
                outcomes[name] = evaluate_method(
                    name, log, config=config, progress=partial(_tell, update, name), **how
                )
            except (TooManyItemsError, ImportError) as error:  # River comes with `--group dev`
                skipped[name] = str(error)
                continue
        _save(kept, outcomes[name])
    return outcomes, skipped


def _tell(update: Any, name: str, done: int) -> None:
    update(done, name)


def _save(path: Path, outcome: "Outcome") -> None:
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(
        part, ranks=outcome.ranks, lists=outcome.lists,
        told=np.array([json.dumps([outcome.recommend_us, outcome.learn_us, outcome.memory_bytes,
                                   outcome.settings])]),
    )  # fmt: skip
    part.replace(path)


def _load(path: Path) -> "Outcome":
    import numpy as np

    from recsys.evaluate import Outcome

    with np.load(path) as kept:
        return Outcome(kept["ranks"], kept["lists"], *json.loads(str(kept["told"][0])))


def _name(log: "EvaluationLog", *how: Any) -> str:
    return hashlib.blake2b(repr((log.digest, *how)).encode(), digest_size=8).hexdigest()


def _seconds(text: str) -> float:
    number, unit = text.strip()[:-1], text.strip()[-1:]
    try:
        return float(number) * UNITS_S[unit]
    except (KeyError, ValueError):
        raise typer.BadParameter(f"{text!r} is no time; as in 0s,1m,1h,1d") from None
