"""`recsys train`: from a folder of photos, or of vectors, to a bundle."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recsys.commands.common import JsonOption, print_json, print_table, say, settings

if TYPE_CHECKING:
    from models.bundle import Bundle
    from recsys.training_data import Job

app = typer.Typer(help="Train on photos; the result is a bundle.", no_args_is_help=True)

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER", exists=True, file_okay=False,
        help="Photos in folders named after their labels (within train, validation and test if "
        "they are split), or a photos.csv with path, label and product.",
    ),
]  # fmt: skip
Name = Annotated[str, typer.Option(help="Name of the bundle.")]
LabelIsProduct = Annotated[
    bool, typer.Option("--label-is-product", help="All photos of a label show one product.")
]
Views = Annotated[int, typer.Option(min=1, max=64, help="Random views of each photo.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs at most.", show_default="by model")]
Rate = Annotated[
    float | None,
    typer.Option("--learning-rate", min=0, help="The highest it gets.", show_default="by model"),
]
Seed = Annotated[int, typer.Option(min=0, help="Decides everything that is random.")]
EncoderName = Annotated[str | None, typer.Option(help="The trunk.", show_default="setting")]
Licence = Annotated[str, typer.Option(help="Licence of the photos, kept in the bundle.")]
Origin = Annotated[str, typer.Option(help="Where the photos come from, kept in the bundle.")]


@app.command()
def classifier(
    folder: Folder,
    name: Name = "classifier",
    kind: Annotated[
        Literal["linear", "hidden", "svm", "fine-tune"],
        typer.Option(help="A head on the frozen trunk, or its end fine-tuned too."),
    ] = "linear",
    encoder: EncoderName = None,
    views: Views = 8,
    epochs: Epochs = None,
    learning_rate: Rate = None,
    seed: Seed = 0,
    licence: Licence = "",
    origin: Origin = "",
    as_json: JsonOption = False,
) -> None:
    """Learn the folder's categories."""
    from recsys.training import train_classifier

    with _job(
        as_json, folder, name, encoder, False, views, epochs, learning_rate, seed, licence, origin
    ) as job:
        written = train_classifier(job, kind)
    _show(written, as_json)


@app.command()
def siamese(
    folder: Folder,
    name: Name = "siamese",
    loss: Annotated[
        Literal["contrastive", "triplet", "in-batch"], typer.Option(help="What pairs teach.")
    ] = "in-batch",
    label_is_product: LabelIsProduct = False,
    encoder: EncoderName = None,
    views: Views = 8,
    epochs: Epochs = None,
    learning_rate: Rate = None,
    seed: Seed = 0,
    licence: Licence = "",
    origin: Origin = "",
    as_json: JsonOption = False,
) -> None:
    """Learn which photos show the same; the bundle is an encoder for search."""
    from recsys.training import train_siamese

    with _job(
        as_json, folder, name, encoder, label_is_product, views, epochs, learning_rate, seed,
        licence, origin,
    ) as job:  # fmt: skip
        written = train_siamese(job, loss)
    _show(written, as_json)


@app.command()
def alexnet(
    folder: Folder,
    name: Name = "alexnet",
    epochs: Epochs = None,
    learning_rate: Rate = None,
    seed: Seed = 0,
    licence: Licence = "",
    origin: Origin = "",
    as_json: JsonOption = False,
) -> None:
    """Train AlexNet from scratch; the bundle is an encoder."""
    from recsys.training import train_alexnet

    with _job(
        as_json, folder, name, None, False, 1, epochs, learning_rate, seed, licence, origin
    ) as job:
        written = train_alexnet(job)
    _show(written, as_json)


@app.command()
def mapping(
    vectors: Annotated[
        Path,
        typer.Argument(
            metavar="VECTORS",
            exists=True,
            dir_okay=False,
            help="A .safetensors or .npz with `images` (n, dim), `factors` (n, f) and perhaps "
            "`weights` (n,), a row a product.",
        ),
    ],
    name: Name = "mapping",
    encoder_id: Annotated[
        str | None,
        typer.Option("--encoder-id", help="What the image vectors are of.", show_default="setting"),
    ] = None,
    seed: Seed = 0,
    licence: Licence = "",
    origin: Origin = "",
    as_json: JsonOption = False,
) -> None:
    """Learn where a product's picture lies in the space of profiles."""
    from recsys.mapping_training import MappingJob, train_mapping

    given = settings()
    job = MappingJob(
        vectors, name, Path(given.data_dir) / "bundles", encoder_id or given.images.encoder_id,
        seed, licence, origin,
    )  # fmt: skip
    _show(train_mapping(job), as_json)


@contextmanager
def _job(
    as_json: bool,
    folder: Path,
    name: str,
    encoder: str | None,
    label_is_product: bool,
    views: int,
    epochs: int | None,
    learning_rate: float | None,
    seed: int,
    licence: str,
    origin: str,
) -> Iterator["Job"]:
    """The job with a progress bar around it."""
    from recsys.training_data import Job

    given = settings()
    data = Path(given.data_dir)
    with _bar(not as_json) as watch:
        yield Job(
            folder=folder,
            name=name,
            bundles=data / "bundles",
            cache=data / "encoders",
            work=data / "training",
            encoder=encoder or given.images.encoder,
            label_is_product=label_is_product,
            views=views,
            seed=seed,
            epochs=epochs,
            learning_rate=learning_rate,
            licence=licence,
            origin=origin,
            watch=watch,
        )


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
