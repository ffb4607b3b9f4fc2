"""TLS and SASL for every client we open: what is asked for, checked, as aiokafka takes it.

Credentials come from the environment or from files, and never show in a repr, a log or an error.
"""

import asyncio
import contextlib
import os
import signal
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaError

Mechanism = Literal["none", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
TOKEN_TIMEOUT_S = 10.0
TOKEN_BYTES_MAX = 64 * 1024


class SecurityError(Exception):
    """TLS or SASL is asked for in a way that cannot work, or would give credentials away."""


class TokenError(KafkaError):  # type: ignore[misc]
    """There is no token to log in with."""


@dataclass(frozen=True)
class Security:
    """How we prove who we are, and how the broker does.

    TLS is on with `tls`, or with any of its files; a certificate of ours makes it mutual. A name
    that ends in `_file` is a path; what it holds is read when clients are made, tokens whenever a
    connection is.
    """

    mechanism: Mechanism = "none"
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: str = ""
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    token_file: str = ""
    token_command: tuple[str, ...] = ()
    allow_plaintext_credentials: bool = False

    def options(self) -> dict[str, Any]:
        """Keyword arguments for any aiokafka client. Raises SecurityError."""
        context = self._ssl_context()
        if self.mechanism == "none":
            if context is None:
                return {}
            return {"security_protocol": "SSL", "ssl_context": context}
        if context is None and not self.allow_plaintext_credentials:
            raise SecurityError(
                f"{self.mechanism} credentials would leave without TLS: set security.tls, or "
                "security.allow_plaintext_credentials if that is what you want"
            )
        options: dict[str, Any] = {
            "security_protocol": "SASL_PLAINTEXT" if context is None else "SASL_SSL",
            "sasl_mechanism": self.mechanism,
        }
        if context is not None:
            options["ssl_context"] = context
        return options | self._login()

    def _login(self) -> dict[str, Any]:
        if self.mechanism == "OAUTHBEARER":
            if bool(self.token_file) == bool(self.token_command):
                raise SecurityError(
                    "OAUTHBEARER takes its token from security.token_file or from "
                    "security.token_command: set one of them"
                )
            return {"sasl_oauth_token_provider": Tokens(self.token_file, self.token_command)}
        if bool(self.password) == bool(self.password_file):
            raise SecurityError(
                f"{self.mechanism} takes its password from security.password (better from its "
                "variable than from a file others read) or security.password_file: set one of them"
            )
        if not self.username:
            raise SecurityError(f"{self.mechanism} needs security.username")
        password = self.password or _secret("password_file", self.password_file)
        return {"sasl_plain_username": self.username, "sasl_plain_password": password}

    def _ssl_context(self) -> ssl.SSLContext | None:
        if not (self.tls or self.ca_file or self.cert_file or self.key_file):
            return None
        if self.key_file and not self.cert_file:
            raise SecurityError("security.key_file goes with security.cert_file")
        name = "ca_file"
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            if self.cert_file:
                name = "cert_file"
                context.load_cert_chain(
                    self.cert_file, self.key_file or None, password=_no_passphrase
                )
        except (OSError, ssl.SSLError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise SecurityError(
                f"security.{name} {getattr(self, name)} cannot be used: {why}"
            ) from None
        return context


class Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens for OAUTHBEARER, fresh at each login: from a file, or printed by a command."""

    def __init__(self, file: str = "", command: tuple[str, ...] = ()) -> None:
        self._file = file
        self._command = command

    async def token(self) -> str:
        """The token. Raises TokenError, which tells neither it nor what the command said."""
        if self._file:
            try:
                return await asyncio.to_thread(_secret, "token_file", self._file)
            except SecurityError as error:
                raise TokenError(str(error)) from None
        name = self._command[0]
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise TokenError(f"security.token_command {name}: {error.strerror}") from None
        try:
            async with asyncio.timeout(TOKEN_TIMEOUT_S):
                said = await _all_said(process)
        except TimeoutError:
            raise TokenError(f"security.token_command {name} took too long") from None
        token = said.decode("utf-8", "replace").strip()
        if len(said) > TOKEN_BYTES_MAX or not token.isprintable():
            raise TokenError(f"security.token_command {name} printed something that is no token")
        if process.returncode or not token:
            raise TokenError(
                f"security.token_command {name} ended with {process.returncode} and "
                f"{'a' if token else 'no'} token"
            )
        return token


async def _all_said(process: asyncio.subprocess.Process) -> bytes:
    """What a program prints, cut off where it is too much; one that is not waited for is killed."""
    assert process.stdout is not None
    try:
        try:
            said = await process.stdout.readexactly(TOKEN_BYTES_MAX + 1)
        except asyncio.IncompleteReadError as end:
            await process.wait()
            return end.partial
        await _kill_all(process)
        return said
    except BaseException:
        await _kill_all(process)
        raise


async def _kill_all(process: asyncio.subprocess.Process) -> None:
    """Kill a program with what it started: a shell's child would hold our pipe."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.communicate(), 1.0)  # what lies in the pipe, too


def _secret(name: str, path: str) -> str:
    """What a file holds, without the line's end."""
    try:
        secret = Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SecurityError(f"security.{name} {path} cannot be read: {why}") from None
    if not secret:
        raise SecurityError(f"security.{name} {path} is empty")
    return secret


def _no_passphrase() -> str:
    # Without this OpenSSL would ask the terminal for the passphrase of an encrypted key.
    return ""
