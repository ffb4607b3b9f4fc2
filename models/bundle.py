"""What training leaves for serving: a folder with weights, graphs and where they come from.

    folder/<name>/current                   one line: the version that is loaded by name alone
    folder/<name>/<version>/bundle.json     kind, settings, metrics, data, licence, file digests
    folder/<name>/<version>/weights.safetensors
    folder/<name>/<version>/*.onnx

A version is the digest of its content: it never changes, and a worker swaps to a new one by
loading the name again.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

Arrays = Mapping[str, npt.NDArray[Any]]
FORMAT = 1
WEIGHTS = "weights.safetensors"
ABOUT = "bundle.json"


class BundleError(ValueError):
    """There is no such bundle, or it is not as it was written."""


@dataclass(frozen=True)
class About:
    """What `bundle.json` says.

    `trunk` and `trunk_id` name the encoder whose vectors the weights take (empty: none). `data`
    holds the digest, counts, licence and origin of what was trained on.
    """

    kind: str
    trunk: str = ""
    trunk_id: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """One version, read and checked."""

    folder: Path
    name: str
    version: str
    about: About

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The weights."""
        try:
            return dict(load_file(self.folder / WEIGHTS))
        except (OSError, SafetensorError) as error:
            raise BundleError(f"{self.folder / WEIGHTS}: {error}") from error

    def graph(self, name: str) -> Path:
        """Where the ONNX graph of that name lies. Raises `BundleError` if there is none."""
        path = self.folder / f"{name}.onnx"
        if not path.exists():
            raise BundleError(f"bundle {self.name} has no graph {name!r}")
        return path


def check_name(name: str) -> None:
    """Raises `BundleError` for what cannot be a bundle's name: it is a folder's name too."""
    if Path(name).name != name or name in ("", "..") or not name.isprintable() or len(name) > 100:
        raise BundleError(f"{name[:100]!r} is no name of a bundle")


def write(
    folder: Path, name: str, about: About, arrays: Arrays, graphs: Mapping[str, bytes] | None = None
) -> Bundle:
    """Writes a version whole, then makes it the current one. The same content is one version.

    Raises `BundleError` for a name that is none.
    """
    check_name(name)
    files = {WEIGHTS: save({key: np.ascontiguousarray(value) for key, value in arrays.items()})}
    files |= {f"{key}.onnx": data for key, data in (graphs or {}).items()}
    digests = {key: hashlib.sha256(data).hexdigest() for key, data in sorted(files.items())}
    facts = {"format": FORMAT, "name": name, **asdict(about), "files": digests}
    text = json.dumps(facts, indent=2, sort_keys=True) + "\n"
    version = hashlib.sha256(text.encode()).hexdigest()[:12]
    place = folder / name / version
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=place.parent))
        for key, data in files.items():
            (part / key).write_bytes(data)
        (part / ABOUT).write_text(text, encoding="utf-8")
        part.chmod(0o755)  # mkdtemp's own is for us alone
        try:
            part.rename(place)
        except OSError:
            shutil.rmtree(part)  # another run has written this very version meanwhile
    use(folder, name, version)
    return read(folder, name, version)


def use(folder: Path, name: str, version: str) -> None:
    """Makes a version the one that the name alone means."""
    current = folder / name / "current"
    part = current.with_name(f".part-{os.getpid()}-current")
    part.write_text(f"{version}\n", encoding="utf-8")
    part.replace(current)


def current_version(folder: Path, name: str) -> str | None:
    """The version that the name alone means; None where there is no such bundle to be read."""
    try:
        return (folder / name / "current").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):  # ValueError: it is not UTF-8, or the name is no path
        return None


def read(folder: Path, name: str, version: str | None = None, kind: str | None = None) -> Bundle:
    """The bundle, each file checked by its digest. Raises `BundleError`."""
    version = version or current_version(folder, name)
    if not version or Path(version).name != version or Path(name).name != name:
        raise BundleError(f"no bundle {name!r} in {folder}")
    place = folder / name / version
    try:
        facts = json.loads((place / ABOUT).read_text(encoding="utf-8"))
        digests: dict[str, str] = facts["files"]
        about = About(**{key: facts[key] for key in About.__dataclass_fields__})
        found = {key: _digest(place / Path(key).name) for key in digests}
        form = facts.get("format")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BundleError(f"bundle {name} {version} cannot be read: {error}") from error
    if form != FORMAT:
        raise BundleError(f"bundle {name} has the format {form}, not {FORMAT}")
    for key, expected in digests.items():
        if found[key] != expected:
            raise BundleError(f"bundle {name} {version}: {key} is not what was written")
    if kind is not None and about.kind != kind:
        raise BundleError(f"bundle {name} is a {about.kind}, not a {kind}")
    return Bundle(place, name, version, about)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
