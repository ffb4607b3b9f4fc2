"""Which column of a file holds which field: said by a mapping, else found by the column's name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recsys.log_sources import LogError, Source

# Names as published files have them, without case, blanks and underscores; the first found counts.
_ITEM_NAMES = ("itemid", "item", "movieid", "productid", "product", "sku", "stockcode", "articleid",
               "trackid", "songid", "bookid", "iid")  # fmt: skip
EVENT_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "user_id": ("userid", "user", "customerid", "customer", "visitorid", "uid"),
    "item_id": _ITEM_NAMES,
    "timestamp": ("timestamp", "time", "ts", "eventtime", "datetime", "date", "invoicedate"),
    "type": ("type", "eventtype", "event", "action", "behaviour", "behavior", "behaviortype"),
    "event_id": ("eventid",),
    "value": ("value", "rating", "score", "stars", "quantity", "qty"),
    "context": ("context",),
    "session_id": ("sessionid", "session", "basketid", "invoiceno", "orderid"),
}
PRODUCT_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "item_id": (*_ITEM_NAMES, "id"),
    "title": ("title", "name", "productname", "productdisplayname", "description"),
    "category": ("category", "mastercategory", "department", "genre", "genres"),
    "price": ("price", "unitprice", "listprice"),
    "brand": ("brand", "vendor", "manufacturer"),
    "available": ("available", "instock", "instore"),
    "tags": ("tags", "keywords", "labels"),
    "url": ("url", "link"),
    "image": ("image", "imageurl", "picture"),
}


@dataclass
class Columns:
    """Columns and constants by field, and in sentences what the columns' names told."""

    columns: dict[str, str]
    constants: dict[str, str]
    notes: list[str] = field(default_factory=list)


def parse_mapping(text: str, known: Mapping[str, Sequence[str]] = EVENT_COLUMNS) -> dict[str, str]:
    """Read `field=COLUMN,field=:constant,...`. Raises LogError.

    >>> parse_mapping("user_id=who,type=:view")
    {'user_id': 'who', 'type': ':view'}
    """
    mapping = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = part.partition("=")
        if not equals or not column:
            raise LogError(f"{part!r} is not field=COLUMN or field=:constant")
        if name not in known:
            raise LogError(f"{name!r} is no field; they are {', '.join(known)}")
        mapping[name] = column
    return mapping


def resolve(
    source: Source,
    file_name: str,
    known: Mapping[str, Sequence[str]],
    required: Sequence[str],
    mapping: Mapping[str, str],
) -> Columns:
    """Where each field comes from. Raises LogError where a required one is nowhere to be found."""
    constants = {name: given[1:] for name, given in mapping.items() if given.startswith(":")}
    columns = {name: given for name, given in mapping.items() if not given.startswith(":")}
    notes = []
    for name, column in columns.items():
        if column not in source.columns:
            raise LogError(
                f"{file_name} has no column {column!r} for {name}; "
                f"it has {', '.join(source.columns)}"
            )
    by_plain_name = {plain(column): column for column in reversed(source.columns)}
    for name, names in known.items():
        column = next((by_plain_name[each] for each in names if each in by_plain_name), "")
        if name in mapping or not column or column in columns.values():
            continue
        if name == "context" and not source.typed:
            continue  # an object has no place in a text column
        columns[name] = column
        if column != name:
            notes.append(f"{name} is read from the column {column}")
    for name in required:
        if name not in columns and name not in constants:
            raise LogError(
                f"no column of {file_name} looks like {name}: say which with --map {name}=COLUMN; "
                f"it has {', '.join(source.columns) or 'none'}"
            )
    return Columns(columns, {name: text for name, text in constants.items() if text}, notes)


def plain(name: str) -> str:
    """A column's name without case, blanks, underscores and dashes."""
    return "".join(name.lower().split()).replace("_", "").replace("-", "")
