"""Files of products, read as the catalogue's messages: the same formats as a behaviour log."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from recsys.log import spell_id
from recsys.log_columns import PRODUCT_COLUMNS, resolve
from recsys.log_sources import open_source
from streams.codec import DecodeError, check_id, encode, invalid
from streams.events import Product


class ProductLog:
    """A file of products. Iterating gives each row's line number and its product, or its error.

    `mapping` is as in `BehaviourLog`. Tags in a text column are separated by `|`.
    """

    def __init__(self, path: Path, mapping: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.source = open_source(path)
        self.size_bytes = path.stat().st_size
        found = resolve(self.source, path.name, PRODUCT_COLUMNS, ("item_id",), mapping or {})
        self.columns, self.constants, self.notes = found.columns, found.constants, found.notes

    def __iter__(self) -> Iterator[tuple[int, Product | DecodeError]]:
        fields = list(self.columns)
        for number, row in self.source.rows(list(self.columns.values())):
            if isinstance(row, DecodeError):
                yield number, row
                continue
            given: dict[str, Any] = {
                name: value.strip() if isinstance(value, str) else value
                for name, value in zip(fields, row, strict=True)
            }
            given = {name: value for name, value in given.items() if value not in ("", None)}
            given.update(self.constants)
            if isinstance(given.get("tags"), str):
                given["tags"] = [tag for tag in given["tags"].split("|") if tag]
            if "item_id" in given:
                given["item_id"] = spell_id(given["item_id"])
            try:
                product = msgspec.convert(given, Product, strict=False)
                check_id("item_id", product.item_id)
                encode(product)
            except UnicodeEncodeError:
                yield number, DecodeError("encoding", "row", "is not UTF-8 text")
            except DecodeError as error:
                yield number, error
            except msgspec.ValidationError as error:
                yield number, invalid(error)
            else:
                yield number, product

    def position(self) -> int:
        """Bytes of `size_bytes` read so far."""
        return self.source.position()
