"""Settings as text: the effective values, a recsys.toml to start from, and a reference table."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from recsys.settings import CONFIG_VARIABLE, Settings, variable_of

MASK = "********"
_USER_OF_ADDRESS = re.compile(r"//[^/]*@")
_QUERY_OF_ADDRESS = re.compile(r"\?.*", re.DOTALL)


def effective(settings: BaseModel) -> dict[str, Any]:
    """Every setting's value, as plain data; what is secret is masked."""
    return {name: _shown(name, getattr(settings, name)) for name in type(settings).model_fields}


def _shown(name: str, value: Any) -> Any:
    """A program's arguments and an address's user may be secrets, too."""
    if name == "token_command":
        return [*value[:1], *([MASK] if value[1:] else [])]
    if name == "trace_endpoint":
        return _QUERY_OF_ADDRESS.sub(f"?{MASK}", _USER_OF_ADDRESS.sub(f"//{MASK}@", value))
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return effective(value)
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return value


def template() -> str:
    """A recsys.toml with every setting at its default, commented out."""
    lines = [
        "# Settings of recsys. What is commented out shows the default.",
        "# Each may also be an environment variable: RECSYS_BROKER, RECSYS_WORKER__WEB_PORT.",
    ]
    section = ""
    for path, value, about in described():
        here, _, name = path.rpartition(".")
        if here != section:
            lines += ["", f"[{here}]"]
            section = here
        lines += [f"# {about}", f"# {name} = {toml_value(value)}"]
    return "\n".join(lines) + "\n"


def reference() -> str:
    """Every setting with its variable, default and meaning, as a Markdown table."""
    rows = ["| setting | variable | default | what it is |", "|---|---|---|---|"]
    rows += [
        f"| `{path}` | `{variable_of(path)}` | `{toml_value(value)}` | {about} |"
        for path, value, about in described()
    ]
    rows.append(f"| | `{CONFIG_VARIABLE}` | `recsys.toml` | path of the settings file |")
    return "\n".join(rows) + "\n"


def described(
    section: type[BaseModel] = Settings, stem: str = ""
) -> Iterator[tuple[str, Any, str]]:
    """Every setting's dotted path, default and meaning; those outside sections first."""
    nested = []
    for name, field in section.model_fields.items():
        if isinstance(field.default, BaseModel):
            nested.append((name, type(field.default)))
        else:
            yield f"{stem}{name}", _plain(field.default), field.description or ""
    for name, kind in nested:
        yield from described(kind, f"{stem}{name}.")


def toml_value(value: Any) -> str:
    """A value as TOML writes it.

    >>> toml_value({"view": 1.0})
    '{view = 1.0}'
    """
    if isinstance(value, dict):
        inside = ", ".join(f"{name} = {toml_value(each)}" for name, each in value.items())
        return f"{{{inside}}}"
    return json.dumps(value)
