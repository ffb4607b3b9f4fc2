"""`recsys train`: from photos in a folder or in the topics to a bundle."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recsys.commands.common import (
    JsonOption,
    connection,
    print_json,
    print_table,
    run,
    say,
    settings,
)
from recsys.settings import Settings

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.photos import Photo
    from recsys.training_data import Job

app = typer.Typer(help="Train on photos; the result is a bundle.", no_args_is_help=True)

Seed = Annotated[int, typer.Option(min=0, help="Decides everything that is random.")]
Name = Annotated[str, typer.Option(help="Name of the bundle.", show_default="the command's")]
Licence = Annotated[str, typer.Option(help="Licence of the data, kept in the bundle.")]
Origin = Annotated[str, typer.Option(help="Where the data come from, kept in the bundle.")]


@dataclass(frozen=True)
class Options:
    """What every training on photos can be told."""

    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER", exists=True, file_okay=False, show_default=False,
            help="Photos in folders named after their labels (within train, validation and test "
            "if they are split), or a photos.csv with path, label and product. Without it: the "
            "products' pictures in their topic, labelled by the catalogue's categories.",
        ),
    ] = None  # fmt: skip
    name: Name = ""
    label_is_product: Annotated[
        bool, typer.Option("--label-is-product", help="All photos of a label show one product.")
    ] = False
    encoder: Annotated[str | None, typer.Option(help="The trunk.", show_default="setting")] = None
    views: Annotated[int, typer.Option(min=1, max=64, help="Random views of each photo.")] = 8
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs at most.", show_default="by model")
    ] = None
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate", min=0, help="The highest it gets.", show_default="by model"
        ),
    ] = None
    seed: Seed = 0
    licence: Licence = ""
    origin: Origin = ""
    as_json: JsonOption = False


def training(*unused: str) -> Callable[[Callable[..., "Bundle"]], Callable[..., None]]:
    """Makes a command of a training: with the shared options but these, a bar, and what it shows.

    The training takes a job, and options of its own.
    """

    def command(train: Callable[..., "Bundle"]) -> Callable[..., None]:
        def whole(**given: Any) -> None:
            own = {name: given.pop(name) for name in list(given) if name not in shared}
            options = Options(**given)
            with _job(options, options.name or train.__name__) as job:
                written = train(job, **own)
            _show(written, options.as_json)

        hints = get_type_hints(Options, include_extras=True)
        shared = {
            each.name: inspect.Parameter(
                each.name, inspect.Parameter.KEYWORD_ONLY,
                default=each.default, annotation=hints[each.name],
            )
            for each in fields(Options) if each.name not in unused
        }  # fmt: skip
        _, *own = inspect.signature(train).parameters.values()
        own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        first, *others = shared.values()
        whole.__signature__ = inspect.Signature([first, *own, *others])  # type: ignore[attr-defined]
        whole.__name__, whole.__doc__ = train.__name__, train.__doc__
        return app.command()(whole)

    return command


@training("label_is_product")
def classifier(
    job: "Job",
    kind: Annotated[
        Literal["best", "linear", "hidden", "svm", "fine-tune"],
        typer.Option(
            help="A head on the frozen trunk, `best`: the one most often right in validation; "
            "or the trunk's end fine-tuned too."
        ),
    ] = "best",
) -> "Bundle":
    """Learn the photos' categories."""
    from recsys.training import train_classifier

    return train_classifier(job, kind)


@training()
def siamese(
    job: "Job",
    loss: Annotated[
        Literal["contrastive", "triplet", "in-batch"], typer.Option(help="What pairs teach.")
    ] = "in-batch",
) -> "Bundle":
    """Learn which photos show the same; the bundle is an encoder for search."""
    from recsys.training import train_siamese

    return train_siamese(job, loss)


@training("label_is_product", "encoder", "views")
def alexnet(job: "Job") -> "Bundle":
    """Train AlexNet from scratch; the bundle is an encoder."""
    from recsys.training import train_alexnet

    return train_alexnet(job)


@app.command()
def mapping(
    vectors: Annotated[
        Path | None,
        typer.Argument(
            metavar="VECTORS", exists=True, dir_okay=False, show_default=False,
            help="A .safetensors or .npz with `images` (n, dim), `factors` (n, f) and perhaps "
            "`weights` (n,), a row a product. Without it: what the topics hold of both.",
        ),
    ] = None,
    name: Name = "mapping",
    encoder_id: Annotated[
        str | None,
        typer.Option("--encoder-id", help="What the image vectors are of.", show_default="setting"),
    ] = None,
    seed: Seed = 0,
    licence: Licence = "",
    origin: Origin = "",
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Learn where a product's picture lies in the space of profiles."""
    from recsys.mapping_training import MappingJob, read_file, train_mapping

    given = settings()
    encoder_id = encoder_id or given.images.encoder_id
    if vectors is not None:
        found = read_file(vectors)
    else:
        from recsys.training_topics import read_vectors

        found = run(read_vectors(connection(given), given.prefix, given.own_prefix, encoder_id))
        origin = origin or _topics(given)
    bundles = Path(given.data_dir) / "bundles"
    job = MappingJob(found, name, bundles, encoder_id, seed, licence, origin)
    _show(train_mapping(job), as_json)


@contextmanager
def _job(options: Options, name: str) -> Iterator["Job"]:
    """The job with a progress bar around it."""
    from recsys.training_data import Job

    given = settings()
    data = Path(given.data_dir)
    with _bar(not options.as_json) as watch:
        yield Job(
            photos=_photos(options, given),
            name=name,
            bundles=data / "bundles",
            cache=data / "encoders",
            work=data / "training",
            encoder=options.encoder or given.images.encoder,
            label_is_product=options.label_is_product,
            views=options.views,
            seed=options.seed,
            epochs=options.epochs,
            learning_rate=options.learning_rate,
            licence=options.licence,
            origin=options.origin or ("" if options.folder else _topics(given)),
            watch=watch,
            say=say,
        )


def _photos(options: Options, given: Settings) -> "list[Photo]":
    if options.folder is not None:
        from models.photos import read_folder

        return read_folder(options.folder, options.label_is_product)
    from recsys.training_topics import read_pictures

    return run(read_pictures(connection(given), given.prefix))


def _topics(given: Settings) -> str:
    return f"topics of {given.prefix}"


@contextmanager
def _bar(shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on standard error, whose total changes with what is being done."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )


def _show(written: "Bundle", as_json: bool) -> None:
    about = written.about
    if as_json:
        print_json(
            {
                "name": written.name,
                "version": written.version,
                "folder": str(written.folder),
                **asdict(about),
            }
        )
        return
    rows: list[dict[str, Any]] = [
        {"what": part if inner is None else f"{part} {inner}", "value": value}
        for part, told in about.metrics.items()
        for inner, value in (told.items() if isinstance(told, dict) else [(None, told)])
    ]
    print_table(f"{written.name} {written.version} ({about.kind})", rows, ["what", "value"])
    say(f"Written to {written.folder}")
