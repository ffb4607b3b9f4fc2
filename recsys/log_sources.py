"""Files of behaviour as rows: CSV, JSON Lines, RecBole's own and Parquet, gzipped or not.

A source tells its columns and gives rows of the columns asked for. A row that cannot be read is a
`DecodeError` in its place, and the next row follows.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, Protocol, cast

import msgspec

from streams.codec import DecodeError

Row = tuple[int, Sequence[Any] | DecodeError]
FORMATS = ".csv, .tsv, .jsonl, .ndjson, .inter, .item (each also with .gz) and .parquet"
SAMPLE_ROWS = 1000  # what is concluded from a file is concluded from so many of its first rows
_DAMAGED = (EOFError, OSError, zlib.error)
_BOM = b"\xef\xbb\xbf"
_BLOCK = 1 << 15  # characters of whole lines read at once
_NOT_CLOSED = DecodeError("type", "row", "a quote is not closed")


class LogError(ValueError):
    """A log that cannot be read at all; the message says why, in a sentence."""


class Source(Protocol):
    """Rows of a file, by column."""

    columns: list[str]
    typed: bool  # values have types of their own; else all are text

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """Each row's first line (from 1, the header included) and the named columns' values."""
        ...

    def position(self) -> int:
        """Bytes of the file read so far, for a progress bar."""
        ...


def open_source(path: Path) -> Source:
    """The source of a file, by its name's ending. Raises LogError."""
    if not path.is_file():
        raise LogError(f"{path} is {'no file' if path.exists() else 'not there'}")
    kind = Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix
    match kind.lower():
        case ".csv" | ".tsv" | ".inter" | ".item":
            return Delimited(path)
        case ".jsonl" | ".ndjson":
            return JsonLines(path)
        case ".parquet":
            return Parquet(path)
        case _:
            raise LogError(f"{path.name} has none of the endings that can be read: {FORMATS}")


class _Bytes:
    """A file's bytes, unpacked where they are gzipped, with the position in the file as it lies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._end = 0

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        with self._path.open("rb") as file:
            self._file = file
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            try:
                if zipped:
                    with gzip.GzipFile(fileobj=file) as unzipped:
                        yield cast(IO[bytes], unzipped)
                else:
                    yield file
            finally:
                self._end = file.tell()
                self._file = None

    def position(self) -> int:
        return self._end if self._file is None else self._file.tell()


class Delimited:
    """CSV, with the delimiter that the header shows; RecBole's `name:type` headers too."""

    typed = False

    def __init__(self, path: Path) -> None:
        self._bytes = _Bytes(path)
        self._name = path.name
        with self._text() as text:
            header = text.readline()
        if not header.strip():
            raise LogError(f"{path.name} is empty: a header with the columns' names is needed")
        self._delimiter = max(",\t;|", key=header.count)
        columns = next(csv.reader([header], delimiter=self._delimiter))
        self.columns = [name.partition(":")[0].strip() for name in columns]

    @contextmanager
    def _text(self) -> Iterator[io.TextIOWrapper]:
        # What is not UTF-8 stays visible as surrogates, so that its row can be refused by number.
        with self._bytes.open() as file:
            text = io.TextIOWrapper(
                file, encoding="utf-8-sig", errors="surrogateescape", newline=""
            )
            try:
                yield text
            except _DAMAGED as error:
                raise LogError(f"{self._name} is damaged: {error}") from None
            finally:
                text.detach()  # else it would close the file under us

    def position(self) -> int:
        """See `Source`."""
        return self._bytes.position()

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """See `Source`."""
        pick = _picker([self.columns.index(name) for name in names])
        width = len(self.columns)
        with self._text() as text:
            text.readline()
            number, lines = 1, text.readlines(_BLOCK)  # the last line done, and those after it
            while lines:
                reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
                before = number
                try:
                    for row in reader:
                        begin, number = number + 1, before + reader.line_num
                        if len(row) == width:
                            yield begin, pick(row)
                        elif row:
                            yield begin, _wrong_width(row, width)
                            if number > begin:  # its other lines may be good ones
                                number = begin
                                break
                except csv.Error as error:
                    open_at_end = "unexpected end" in str(error)
                    if open_at_end and (more := text.readlines(_BLOCK)):
                        lines = lines[number - before :] + more
                        continue
                    number += 1
                    if open_at_end or before + reader.line_num > number:
                        yield number, _NOT_CLOSED
                    else:
                        yield number, self._loose(lines[number - before - 1], pick)
                lines = lines[number - before :] or text.readlines(_BLOCK)

    def _loose(self, line: str, pick: Any) -> Sequence[Any] | DecodeError:
        """A line with quotes in its text, as in `"Great" Expectations`, by itself."""
        try:
            row = next(csv.reader([line], delimiter=self._delimiter))
        except csv.Error as error:
            return DecodeError("type", "row", str(error))
        if row[-1].endswith(("\n", "\r")):
            return _NOT_CLOSED
        width = len(self.columns)
        return pick(row) if len(row) == width else _wrong_width(row, width)


def _wrong_width(row: list[str], width: int) -> DecodeError:
    return DecodeError("type", "row", f"has {len(row)} fields, the header has {width}")


def _picker(indexes: list[int]) -> Any:
    if len(indexes) == 1:
        (index,) = indexes
        return lambda row: (row[index],)
    return itemgetter(*indexes)


class JsonLines:
    """One JSON object a line; the columns are those of the first objects."""

    typed = True

    def __init__(self, path: Path) -> None:
        self._bytes = _Bytes(path)
        self._name = path.name
        first = (fields for _, fields in islice(self._objects(), SAMPLE_ROWS))
        self.columns = list(
            dict.fromkeys(name for fields in first if isinstance(fields, dict) for name in fields)
        )

    def _objects(self) -> Iterator[tuple[int, dict[str, Any] | DecodeError]]:
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        for number, line in self.lines():
            try:
                yield number, decode(line)
            except msgspec.ValidationError:
                yield number, DecodeError("type", "row", "is not a JSON object")
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                yield number, DecodeError("not-json", "row", str(error))

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Each line that is not blank, with its number."""
        try:
            with self._bytes.open() as file:
                for number, line in enumerate(file, 1):
                    text = line.removeprefix(_BOM) if number == 1 else line
                    if not text.isspace():
                        yield number, text
        except _DAMAGED as error:
            raise LogError(f"{self._name} is damaged: {error}") from None

    def position(self) -> int:
        """See `Source`."""
        return self._bytes.position()

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """See `Source`."""
        for number, fields in self._objects():
            if isinstance(fields, dict):
                yield number, [fields.get(name) for name in names]
            else:
                yield number, fields


def _plain(column: Any) -> list[Any]:
    """A column's values; times to the microsecond, for `datetime` knows no nanoseconds.

    A NaN is pandas' word for nothing.
    """
    from pyarrow import compute, scalar, timestamp, types

    if types.is_floating(column.type):
        column = compute.if_else(compute.is_nan(column), scalar(None, column.type), column)
    if types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(timestamp("us", tz=column.type.tz), safe=False)
    return cast(list[Any], column.to_pylist())


class Parquet:
    """A Parquet file, where pyarrow is installed."""

    typed = True

    def __init__(self, path: Path) -> None:
        try:
            from pyarrow import parquet
        except ImportError:
            raise LogError('Parquet needs pyarrow: install the extra "parquet"') from None
        try:
            self._file = parquet.ParquetFile(path)
        except (ValueError, OSError) as error:
            raise LogError(f"{path.name} is no Parquet file: {error}") from None
        self._name = path.name
        self.columns = list(self._file.schema_arrow.names)
        self._size = path.stat().st_size
        self._share = 0.0

    def position(self) -> int:
        """See `Source`."""
        return int(self._size * self._share)

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """See `Source`; row 1 is the first, since there is no header line."""
        total = max(1, self._file.metadata.num_rows)
        number = 0
        batches = self._file.iter_batches(batch_size=10_000, columns=list(dict.fromkeys(names)))
        try:
            for batch in batches:
                columns = [_plain(batch.column(name)) for name in names]
                for number, row in enumerate(zip(*columns, strict=True), number + 1):  # noqa: B020
                    yield number, row
                self._share = number / total
        except (ValueError, OSError) as error:
            told = " ".join(str(error).split())
            raise LogError(f"{self._name} is damaged: {told}") from None
