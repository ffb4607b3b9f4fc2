"""Every setting, in one typed tree: defaults, then recsys.toml, then RECSYS_* variables.

A nested setting is `[section] name` in the file and `RECSYS_SECTION__NAME` in the environment.
What is unknown or wrong is a `SettingsError` that names it. Only composition roots read settings;
everything below gets plain values.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

if TYPE_CHECKING:
    from streams.connection import Connection

PREFIX = "RECSYS_"
CONFIG_VARIABLE = "RECSYS_CONFIG"  # path of the file, where it is not ./recsys.toml
CONFIG_FILE = "recsys.toml"
MAIN = "main"  # the generation that writes the live lists until another is promoted
TABLES = {"events.weights": '{"view": 0.3}', "rank.variants": '{"wide.toml": 0.5}'}
DAY_MS = 24 * 60 * 60 * 1000
FLOAT_MAX, INTEGER_MAX = 1e10, 10**15

Role = Literal["behaviour", "items", "images"]
EVENT_WEIGHTS: Mapping[str, float] = {
    "view": 0.25, "click": 0.4, "cart": 0.7, "purchase": 1.0, "return": -1.0, "like": 0.8,
    "dislike": -1.0, "rating": 1.0, "impression": 0.0,
}  # fmt: skip


class SettingsError(ValueError):
    """A setting is unknown or wrong; the message names it, a sentence a line."""


def _comma_separated(value: Any) -> Any:
    # A variable holds a,b or, as in the file, ["a", "b"].
    if not isinstance(value, str):
        return value
    return [part.strip(" \"'") for part in value.strip(" []").split(",") if part.strip()]


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)]
Roles = Annotated[tuple[Role, ...], NoDecode, BeforeValidator(_comma_separated)]
Cpus = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], NoDecode, BeforeValidator(_comma_separated)
]
File = Annotated[str, AfterValidator(os.path.expanduser)]  # no shell has seen ~ in a file
Folder = Annotated[Path, AfterValidator(lambda path: Path(os.path.expanduser(path)))]


def setting(default: Any, about: str, **bounds: Any) -> Any:
    """One setting: its default, a line about it, and what it must satisfy."""
    return Field(default=default, description=about, **bounds)


class Section(BaseModel):
    """A group of settings: fixed once read, and nothing unknown in it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _can_be_reckoned_with(cls, value: Any) -> Any:
        """Days become milliseconds, rates are multiplied: what is far larger overflows later on."""
        for kind, most in ((float, FLOAT_MAX), (int, INTEGER_MAX)):
            if isinstance(value, kind) and abs(value) > most:
                raise ValueError(f"must lie between {-most:g} and {most:g}")
        return value


class Worker(Section):
    """The process that learns and recommends."""

    roles: Roles = setting(("behaviour", "items", "images"), "what it does", min_length=1)
    web_host: str = setting(  # no colon, or an IPv6 address
        "127.0.0.1",
        "address of health and metrics",
        pattern=r"^([^\s:/]+|[0-9A-Fa-f.:]*:[0-9A-Fa-f.]*:[0-9A-Fa-f.:]*)$",
    )
    web_port: int = setting(6066, "port of health and metrics", ge=0, le=65535)
    ready_lag_records_max: int = setting(
        100_000, "not ready while more records than this wait", ge=0
    )
    chunk_events_max: int = setting(4000, "records of one transaction", ge=1, le=100_000)
    transaction_timeout_ms: int = setting(
        10_000, "a dead worker's open transaction ends after this", ge=1000, le=900_000
    )
    session_timeout_ms: int = setting(
        6000, "a silent worker loses its lanes after this", ge=1000, le=300_000
    )
    heartbeat_interval_ms: int = setting(1000, "a sign of life, every", ge=100, le=60_000)
    snapshot_interval_s: float = setting(60, "a local copy of the state, every", gt=0)
    watchdog_s: float = setting(60, "exit where lag stays and nothing commits for this long", ge=1)
    broker_timeout_s: float = setting(
        120, "exit where no broker answers for this long; until then wait for it", gt=0
    )
    trace_endpoint: str = setting(
        "", "spans go to this OpenTelemetry collector, as http://host:4318/v1/traces"
    )
    list_events_per_s_max: int = setting(
        1000, "up to this rate every event gets its own list; beyond, a user's share one", ge=1
    )
    list_delay_ms_max: int = setting(2000, "no list is further behind what was learned", ge=0)
    direct_transactions: bool = setting(
        True, "transactions by requests of our own (KIP-890) where brokers take them: half the CPU"
    )
    list_threads: int = setting(
        2, "lists that are made together are scored on so many threads, where there are cores",
        ge=1, le=2,
    )  # fmt: skip

    cpus: Cpus = setting(
        (), "numbers of the CPUs it keeps to; all, if none is named. One of its own is worth most"
        " where a broker shares a small machine, and is kept to the others",
    )  # fmt: skip

    @model_validator(mode="after")
    def _heartbeats_fit(self) -> Self:
        if self.heartbeat_interval_ms * 3 > self.session_timeout_ms:
            raise ValueError("session_timeout_ms must be at least 3 times heartbeat_interval_ms")
        return self


class Events(Section):
    """What events are taken for."""

    future_ms_max: int = setting(
        DAY_MS, "an event may lie this far after its record's Kafka time", ge=0, le=366 * DAY_MS
    )
    unknown_items: Literal["learn", "dead-letter"] = setting(
        "learn", "what to do with items that the catalogue does not hold"
    )
    weights: dict[str, float] = setting(dict(EVENT_WEIGHTS), "what an event of each type counts")

    @field_validator("weights", mode="after")
    @classmethod
    def _known_types(cls, weights: dict[str, float]) -> dict[str, float]:
        for name, weight in weights.items():
            if name not in EVENT_WEIGHTS:
                raise ValueError(f"{name!r} is no event type; they are {', '.join(EVENT_WEIGHTS)}")
            if not -100 <= weight <= 100:
                raise ValueError(f"the weight of {name} must lie between -100 and 100")
        return {**EVENT_WEIGHTS, **weights}


class State(Section):
    """How much is remembered."""

    user_entries_max: int = setting(2048, "distinct items remembered of a user", ge=64, le=32_768)
    user_ttl_days: float = setting(400, "a user who is silent for longer is forgotten", gt=0)
    users_max: int = setting(
        2_000_000, "users of a lane; beyond, the longest silent are forgotten", ge=1
    )
    item_ttl_days: float = setting(400, "what is learned of an item goes after so long idle", gt=0)


class Rank(Section):
    """How a list comes about."""

    k: int = setting(10, "length of a list, where no request says it", ge=1, le=1000)
    repeats: bool = setting(True, "whether a list may hold what the user had before")
    category_share_max: float = setting(
        1, "largest share of a list that is of one category", gt=0, le=1
    )
    brand_share_max: float = setting(1, "the same of one brand", gt=0, le=1)
    price_band_share_max: float = setting(
        1, "the same of one band of prices, whose end is twice its beginning", gt=0, le=1
    )
    diversity: float = setting(0, "weight of being unlike the items above (MMR)", ge=0, le=1)
    fresh_share: float = setting(0, "share of a list kept for new and rare items", ge=0, le=1)
    fresh_events: int = setting(5, "an item with fewer events is new or rare", ge=1)
    explore_share: float = setting(
        0, "share of lists whose last place is drawn from the new and rare, its odds logged",
        ge=0, le=1,
    )  # fmt: skip
    impression_discount: float = setting(
        0.1, "log odds that each impression not acted on takes off an item for that user; half of"
        " it is gone after a day", ge=0,
    )  # fmt: skip
    rare_lift: float = setting(
        0.07, "weight of the logarithm of an item's events, taken off its score where the list may"
        " hold what its user had; 0: the likeliest first, however popular", ge=0, le=1,
    )  # fmt: skip
    rules_file: File = setting(
        "", "TOML file of include, exclude and boost rules, read as it changes"
    )
    variants: dict[str, float] = setting(
        {}, "settings files that differ in how lists are made, each with its share of the users"
    )
    candidates_per_source: int = setting(30, "best items of each source", ge=1, le=1000)
    sources: Names = setting((), "where candidates come from; every built-in one, if none is named")
    image_half_life_days: float = setting(3, "an upload counts half after", gt=0)
    refit_events_min: int = setting(1000, "events before the first refit of the factors", ge=1)
    refit_growth: float = setting(0.2, "a refit when events have grown by this share", gt=0)
    refit_interval_s: float = setting(60, "time between two refits, at least", ge=0)


class Images(Section):
    """How photos are read. Vectors of two encoders never meet: `encoder_id` says which count."""

    encoder: str = setting("efficientnet-lite0", "what makes vectors of pictures")
    encoder_id: str = setting(
        "efficientnet-lite0@57934424-1", "its name and version, as every embedding carries it"
    )
    classifier: str = setting("", "bundle that tells a photo's category; none without")
    same_product_cosine: float = setting(
        0.95, "pictures that are nearer show one product, once a list; over 1: none do", gt=0, le=2
    )
    batch_size: int = setting(16, "pictures encoded at once", ge=1, le=256)
    bytes_max: int = setting(8 * 1024 * 1024, "largest file that is taken", ge=1)
    pixels_max: int = setting(40_000_000, "largest picture that is decoded", ge=64)


class Security(Section):
    """TLS and SASL. Secrets are masked wherever settings are shown."""

    mechanism: Literal["none", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = setting(
        "none", "how to log in; none with tls and cert_file is mutual TLS"
    )
    username: str = setting("", "user of PLAIN and SCRAM")
    password: SecretStr = setting(SecretStr(""), "their password; never on a command line")
    password_file: File = setting("", "file that holds the password instead")
    tls: bool = setting(False, "encrypt; on by itself where one of its files is named")
    ca_file: File = setting("", "authorities to trust (PEM); without: the system's")
    cert_file: File = setting("", "our certificate (PEM), for mutual TLS")
    key_file: File = setting("", "its key (PEM), where cert_file does not hold it")
    token_file: File = setting("", "file with the token of OAUTHBEARER, read at each login")
    token_command: Names = setting((), "program that prints the token instead, with its arguments")
    allow_plaintext_credentials: bool = setting(
        False, "log in without TLS all the same; for a closed network only"
    )


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    broker: str = setting("127.0.0.1:9092", "bootstrap servers, comma-separated")
    prefix: str = setting(
        "recsys", "every topic's name begins so", pattern=r"^[a-z0-9][a-z0-9.-]{0,99}$"
    )
    application: str = setting(
        "recsys",
        "stem of the consumer group and of the transactional ids",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,99}$",
    )
    generation: str = setting(
        MAIN, "which version this is; others than main keep topics and groups of their own",
        pattern=r"^[a-z0-9][a-z0-9-]{0,30}$",
    )  # fmt: skip
    partitions: int = setting(
        24, "lanes: partitions of the topics keyed by user; fixed for good, but a generation other"
        " than main may have another number, and reads a mirror", ge=1, le=1000,
    )  # fmt: skip
    item_partitions: int = setting(
        1, "partitions of the topics keyed by item: one, for they have one writer", ge=1, le=1
    )
    replication: int = setting(1, "copies of each partition", ge=1, le=9)
    data_dir: Folder = setting(Path(".recsys"), "folder of snapshots and encoders")
    worker: Worker = Worker()
    events: Events = Events()
    state: State = State()
    rank: Rank = Rank()
    images: Images = Images()
    security: Security = Security()

    @property
    def own_prefix(self) -> str:
        """What the names of this generation's own topics begin with."""
        return self.prefix if self.generation == MAIN else f"{self.prefix}.{self.generation}"

    @property
    def own_application(self) -> str:
        """The stem of this generation's groups and transactional ids."""
        main = self.generation == MAIN
        return self.application if main else f"{self.application}.{self.generation}"

    def connection(self) -> "Connection":
        """How to reach the broker, checked. Raises SecurityError."""
        from streams import security
        from streams.connection import Connection

        given = self.security.model_dump() | {"password": self.security.password.get_secret_value()}
        direct = self.worker.direct_transactions
        connection = Connection(self.broker, security.Security(**given), direct)
        connection.options()
        return connection

    def for_child(self) -> bytes:
        """All of it as JSON, secrets too: for the standard input of a process of ours only."""
        plain = self.model_dump(mode="json")
        plain["security"]["password"] = self.security.password.get_secret_value()
        return json.dumps(plain).encode()

    @field_validator("broker")
    @classmethod
    def _host_and_port(cls, broker: str) -> str:
        for address in broker.split(","):
            found = re.fullmatch(r"\s*(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})\s*", address)
            if found is None or not 0 < int(found[2]) < 65536:
                raise ValueError(f"{address!r} is not host:port")
        return broker

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given in code, then the environment, then the file."""
        return init_settings, env_settings, _SettingsFile(settings_cls)


class _SettingsFile(TomlConfigSettingsSource):
    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        return _toml(file_path)


def _toml(file: Path | Traversable) -> dict[str, Any]:
    """What a file says; some editors put a mark of the byte order before it."""
    return tomllib.loads(file.read_text(encoding="utf-8-sig"))


def load(file: Path | None = None, **given: Any) -> Settings:
    """Read the settings. `given` goes before everything; raises SettingsError."""
    variable = os.path.expanduser(os.environ.get(CONFIG_VARIABLE, ""))
    path = file or Path(variable or CONFIG_FILE)
    if not path.is_file() and (file or variable or os.path.lexists(path)):
        raise SettingsError(f"the settings file {path} is {_instead_of_a_file(path)}")

    class Loaded(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    wrong = [_unknown_variable(name) for name in unknown_variables(os.environ)]
    wrong += unread_tables(os.environ) + said_twice(os.environ)
    if wrong:
        raise SettingsError("\n".join(wrong))
    try:
        return Loaded(**given)
    except ValidationError as error:
        raise SettingsError("\n".join(_sentences(error))) from None
    except ValueError as error:  # a file that is not TOML, a variable that is not what it must be
        raise SettingsError(f"{path}: {error}" if path.is_file() else str(error)) from None


def _instead_of_a_file(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    return "no file" if path.exists() else "not there"


def overlaid(settings: Settings, file: Path) -> Settings:
    """Settings with what a file says instead. Raises SettingsError."""
    try:
        said = _toml(file)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file}: {error}") from None
    values = settings.model_dump()
    for name, value in said.items():
        inside = isinstance(value, dict) and isinstance(values.get(name), dict)
        values[name] = {**values[name], **value} if inside else value
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{file}: {told}" for told in _sentences(error))) from None


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """RECSYS_* variables that stand for no setting."""
    known = {variable_of(path) for path, _ in leaves()} | {CONFIG_VARIABLE}
    maps = tuple(f"{variable_of(path)}__" for path, field in leaves() if field == dict[str, float])
    return sorted(
        name
        for name in environ
        if name.upper().startswith(PREFIX)
        and name.upper() not in known
        and not name.upper().startswith(maps)
    )


def unread_tables(environ: Mapping[str, str]) -> list[str]:
    """What is wrong with the variables that hold a whole table, a sentence each."""
    examples = {variable_of(path): example for path, example in TABLES.items()}
    return [
        f"{name} must be a table in JSON, as {examples[name.upper()]}"
        for name, value in sorted(environ.items())
        if value and name.upper() in examples and not _is_table(value)
    ]


def said_twice(environ: Mapping[str, str]) -> list[str]:
    """Settings that two variables give, a sentence each: capitals do not count in their names."""
    given: dict[str, list[str]] = {}
    for name in sorted(environ):
        if environ[name] and name.upper().startswith(PREFIX):
            given.setdefault(name.upper(), []).append(name)
    for table in {variable_of(path) for path in TABLES} & set(given):
        said = environ[given[table][0]]
        for entry in json.loads(said) if _is_table(said) else ():
            given[table] += given.get(f"{table}__{entry.upper()}", [])
    return [
        f"{' and '.join(names)} give one setting; leave out all but one"
        for names in given.values()
        if len(names) > 1
    ]


def _is_table(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def leaves(section: type[BaseModel] = Settings, stem: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting as its dotted path and its type."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, f"{stem}{name}.")
        else:
            yield f"{stem}{name}", kind


def variable_of(path: str) -> str:
    """The environment variable of a setting.

    >>> variable_of("worker.web_port")
    'RECSYS_WORKER__WEB_PORT'
    """
    return PREFIX + path.upper().replace(".", "__")


def _unknown_variable(name: str) -> str:
    known = [variable_of(path) for path, _ in leaves()]
    return f"{name} is no setting{_nearest(name.upper(), known)}"


def _sentences(error: ValidationError) -> Iterator[str]:
    for each in error.errors(include_url=False):
        path = ".".join(str(part) for part in each["loc"])
        if each["type"] == "extra_forbidden":
            yield f"{path} is no setting{_nearest(path, [path for path, _ in leaves()])}"
        else:
            told = each["msg"].removeprefix("Value error, ")
            variable = variable_of(".".join(p for p in each["loc"] if isinstance(p, str)))
            yield f"{path} ({variable}): {told[0].lower()}{told[1:]}"


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
