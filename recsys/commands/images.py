"""`recsys upload`, `recsys pictures`, `recsys index` and `recsys similar`: photos and products."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from recsys.commands.common import (
    FAILURE,
    CommandError,
    JsonOption,
    connection,
    print_json,
    print_table,
    progress_bar,
    run,
    say,
    settings,
)
from recsys.settings import Settings

if TYPE_CHECKING:
    from models.encoder import Encoder
    from recsys.photo_index import PhotoIndex

index_app = typer.Typer(help="Build, extend and inspect a file of picture vectors.")
Photo = Annotated[
    Path,
    typer.Argument(metavar="PHOTO", exists=True, dir_okay=False, help="JPEG, PNG or WebP."),
]
K = Annotated[int, typer.Option(min=1, max=1000, help="How many.")]
IndexFile = Annotated[Path, typer.Argument(metavar="INDEX", help="The index's file.")]
Pictures = Annotated[
    Path,
    typer.Argument(
        metavar="PICTURES", exists=True,
        help="A CSV with item_id and image, or a folder (with products.csv, or named by item).",
    ),
]  # fmt: skip
Sheet = Annotated[Path | None, typer.Option(help="Write a picture of photo and products here.")]
From = Annotated[
    Path | None, typer.Option("--from", exists=True, help="Pictures instead of the topic.")
]


def upload(
    photo: Photo,
    user: Annotated[str, typer.Option(help="Whose photo it is.")],
    k: K = 10,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait.")] = 30,
    sheet: Sheet = None,
    as_json: JsonOption = False,
) -> None:
    """Send a user's photo and show the list that answers it.

    The photo is checked, turned upright, scaled down and stripped of place and camera first.
    """
    from recsys import uploads

    given = settings()
    _check_folder(sheet)
    data = uploads.prepare(photo)
    answer = run(uploads.upload(connection(given), given.prefix, user, data, k, wait_s))
    ranked = answer.ranked
    if as_json:
        print_json({"seconds": round(answer.seconds, 3), **msgspec.to_builtins(ranked)})
    else:
        rows = [msgspec.to_builtins(item) for item in ranked.items]
        title = f"{photo.name}: a list after {answer.seconds:.2f} s"
        print_table(title, rows, ["rank", "item_id", "score", "sources", "reason"])
    if sheet is not None:  # last: the list has come, whatever becomes of its picture
        words = {item.item_id: f"{item.score:.3f} {item.reason}" for item in ranked.items}
        _draw(given, sheet, data, words, f"{photo.name}, user {user}")


def pictures(source: Pictures, as_json: JsonOption = False) -> None:
    """Send the catalogue's pictures to their topic."""
    from recsys import uploads
    from recsys.photo_index import catalogue_pictures

    given = settings()
    found = list(catalogue_pictures(source))
    if not found:
        raise CommandError(f"there are no pictures in {source}")
    refused = []

    def prepared() -> Any:
        with progress_bar(len(found), not as_json, count=True) as show:
            for done, (item_id, path) in enumerate(found, 1):
                try:
                    yield item_id, uploads.prepare(path)
                except uploads.UploadError as error:
                    refused.append(str(error))
                show(done, "pictures")

    sent = run(uploads.send_pictures(connection(given), given.prefix, prepared()))
    for line in refused:
        say(line)
    if as_json:
        print_json({"sent": sent, "refused": refused})
    else:
        say(f"{sent} pictures sent, {len(refused)} refused.")
    if refused:
        raise typer.Exit(FAILURE)


@index_app.command()
def build(
    out: IndexFile,
    source: From = None,
    as_json: JsonOption = False,
) -> None:
    """Build an index of the products' pictures, from the topic of vectors or from a folder."""
    given = settings()
    _check_folder(out)
    if source is not None:
        encoder = _encoder(given)
        from recsys.photo_index import PhotoIndex

        _add(PhotoIndex.empty(encoder.id, encoder.dim), encoder, source, out, as_json)
        return
    _save(_of_topic(given), out, as_json)


@index_app.command()
def add(
    file: IndexFile,
    source: From = None,
    as_json: JsonOption = False,
) -> None:
    """Add pictures to an index, or what the topic holds since it was built."""
    given = settings()
    from recsys.photo_index import follow_topic

    found = _load(file)
    if source is not None:
        _add(found, _encoder(given, found.saved.encoder), source, file, as_json)
        return
    patience_s = given.worker.broker_timeout_s
    run(follow_topic(connection(given), given.prefix, found.saved.encoder, found, patience_s))
    _save(found, file, as_json)


@index_app.command()
def inspect(file: IndexFile, as_json: JsonOption = False) -> None:
    """Show what an index holds."""
    _print_facts(_load(file), file, as_json)


def similar(
    what: Annotated[str, typer.Argument(metavar="ITEM|PHOTO", help="An item's id, or a file.")],
    k: K = 10,
    file: Annotated[
        Path | None, typer.Option("--index", help="An index's file instead of the topic.")
    ] = None,
    sheet: Sheet = None,
    as_json: JsonOption = False,
) -> None:
    """Show the products whose pictures look most like an item's, or like a photo."""
    given = settings()
    _check_folder(sheet)
    index = _of_topic(given) if file is None else _load(file)
    data = None
    if _is_file(what):
        from models.image import decode
        from recsys import uploads

        data = uploads.prepare(Path(what))
        vector = _encoder(given, index.saved.encoder).encode([decode(data)])[0]
    else:
        found = index.vector(what)
        if found is None:
            raise CommandError(f"{what} is neither a file nor an item with a picture")
        vector = found
    near = [pair for pair in index.search(vector, k + 1) if pair[0] != what][:k]
    rows = [{"rank": n, "item_id": i, "cosine": round(c, 4)} for n, (i, c) in enumerate(near, 1)]
    if as_json:
        print_json(rows)
    else:
        print_table(f"Looks like {what}", rows, ["rank", "item_id", "cosine"])
    if sheet is not None:
        words = {item_id: f"cosine {cosine:.3f}" for item_id, cosine in near}
        _draw(given, sheet, data, words, f"like {what}", None if data else what)


def _is_file(what: str) -> bool:
    try:
        return Path(what).is_file()
    except OSError:  # an item's id may be longer than a file's name
        return False


def _check_folder(out: Path | None) -> None:
    """Before the work, since what it gives is written at its end."""
    if out is not None and out.is_dir():
        raise CommandError(f"{out} is a folder")
    if out is not None and not out.parent.is_dir():
        raise CommandError(f"{out} cannot be written: there is no folder {out.parent}")


def _draw(
    given: Settings,
    sheet: Path,
    data: bytes | None,
    words: dict[str, str],
    title: str,
    item_id: str | None = None,
) -> None:
    """Writes the contact sheet; pictures come from their topic."""
    from PIL import Image

    from models.image import BadImage, decode
    from recsys import uploads
    from recsys.contact_sheet import Line, contact_sheet

    wanted = [*words, *([item_id] if item_id else [])]
    files = run(uploads.pictures_of(connection(given), given.prefix, wanted))
    found = {}
    for name, content in files.items():
        try:
            found[name] = decode(content)
        except BadImage:  # it is a dead letter, and a grey field here
            continue
    grey = Image.new("RGB", (8, 8), "lightgrey")
    photo = decode(data) if data else found.get(item_id or "", grey)
    lines = [Line(name, each) for name, each in words.items()]
    buffer = BytesIO()
    contact_sheet(photo, lines, found, title).save(buffer, "PNG", optimize=True)
    sheet.write_bytes(buffer.getvalue())
    say(f"Contact sheet: {sheet}")


def _encoder(given: Settings, wanted_id: str | None = None) -> "Encoder":
    from models import trained

    data = Path(given.data_dir)
    loaded = trained.load_encoder(given.images.encoder, data / "encoders", data / "bundles")
    if wanted_id is not None and loaded.id != wanted_id:
        raise CommandError(f"the index holds vectors of {wanted_id}; images.encoder is {loaded.id}")
    return loaded


def _of_topic(given: Settings) -> "PhotoIndex":
    from recsys.photo_index import follow_topic

    mine, patience_s = given.images.encoder_id, given.worker.broker_timeout_s
    found = run(follow_topic(connection(given), given.prefix, mine, None, patience_s))
    if found is None:
        raise CommandError(f"the topic holds no vector of {mine}")
    return found


def _load(file: Path) -> "PhotoIndex":
    from models import index_file
    from recsys.photo_index import PhotoIndex

    if file.is_dir():
        raise CommandError(f"{file} is a folder")
    try:
        return PhotoIndex(index_file.load(file))
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror or error}") from error


def _add(index: "PhotoIndex", encoder: "Encoder", source: Path, out: Path, as_json: bool) -> None:
    from recsys.photo_index import add_pictures, catalogue_pictures

    found = list(catalogue_pictures(source))
    with progress_bar(len(found), not as_json, count=True) as show:
        bad = add_pictures(index, encoder, found, lambda done: show(done, "pictures"))
    for item_id, error in bad:
        say(f"{item_id}: {error.reason}: {error.message}")
    if len(bad) == len(found):
        raise CommandError(f"{source} holds no picture that could be taken: {out} is not written")
    _save(index, out, as_json)
    if bad:
        raise typer.Exit(FAILURE)


def _save(index: "PhotoIndex", out: Path, as_json: bool) -> None:
    from models import index_file

    index_file.save(out, index.saved)
    _print_facts(index, out, as_json)


def _print_facts(index: "PhotoIndex", file: Path, as_json: bool) -> None:
    saved = index.saved
    inner = getattr(saved.index, "inner", saved.index)
    facts = {
        "file": str(file),
        "vectors": len(saved.index),
        "dim": saved.index.dim,
        "metric": saved.index.metric,
        "kind": inner.kind,
        "encoder": saved.encoder,
        "offsets": saved.offsets,
        "bytes": file.stat().st_size,
    }
    if as_json:
        print_json(facts)
        return
    rows = [{"what": name, "value": str(value)} for name, value in facts.items()]
    print_table("Index", rows, ["what", "value"])
