"""What `Security` asks for, what it refuses, and that it never tells a secret."""

import asyncio
import sys

import pytest

from streams.connection import Connection
from streams.security import Security, SecurityError, TokenError, Tokens
from tests.processes import alive

SECRET = "hunter2-hunter2"
SCRAM = {"mechanism": "SCRAM-SHA-512", "username": "shop"}


def test_nothing_asked_is_plaintext():
    assert Connection("h:1").options() == {"bootstrap_servers": "h:1"}


def test_tls_alone():
    options = Security(tls=True).options()
    assert options["security_protocol"] == "SSL"
    assert options["ssl_context"].check_hostname


def test_credentials_without_tls_are_refused_unless_asked_for_by_name():
    with pytest.raises(SecurityError, match="allow_plaintext_credentials"):
        Security(**SCRAM, password=SECRET).options()
    with pytest.raises(SecurityError, match="allow_plaintext_credentials"):
        Security(mechanism="OAUTHBEARER", token_file="t").options()
    asked = Security(**SCRAM, password=SECRET, allow_plaintext_credentials=True).options()
    assert asked == {
        "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "shop", "sasl_plain_password": SECRET,
    }  # fmt: skip


def test_the_password_may_lie_in_a_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(SECRET + "\n")
    options = Security(**SCRAM, tls=True, password_file=str(path)).options()
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_plain_password"] == SECRET


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({**SCRAM, "tls": True}, r"security\.password_file"),
        ({**SCRAM, "tls": True, "password": SECRET, "password_file": "x"}, "set one of them"),
        ({"mechanism": "PLAIN", "tls": True, "password": SECRET}, r"security\.username"),
        ({**SCRAM, "tls": True, "password_file": "/nowhere/x"}, "/nowhere/x cannot be read"),
        ({"mechanism": "OAUTHBEARER", "tls": True}, "token_file or from"),
        ({"ca_file": "/nowhere/ca"}, r"security\.ca_file /nowhere/ca cannot be used: No such"),
        ({"tls": True, "key_file": "k"}, "goes with security.cert_file"),
    ],
)
def test_what_cannot_work_is_a_sentence(given, told):
    with pytest.raises(SecurityError, match=told) as refused:
        Security(**given).options()
    assert SECRET not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_file_that_is_no_certificate(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text(SECRET)
    with pytest.raises(SecurityError, match="ca_file") as refused:
        Security(ca_file=str(path)).options()
    assert SECRET not in str(refused.value)


def test_no_repr_tells_a_secret():
    connection = Connection("h:1", Security(**SCRAM, password=SECRET, tls=True))
    assert SECRET not in repr(connection)
    assert "shop" in repr(connection)


async def test_tokens_are_read_anew_each_time(tmp_path):
    path = tmp_path / "token"
    path.write_text("one\n")
    tokens = Tokens(file=str(path))
    assert await tokens.token() == "one"
    path.write_text("two")
    assert await tokens.token() == "two"
    path.unlink()
    with pytest.raises(TokenError, match="cannot be read"):
        await tokens.token()


async def test_a_command_prints_the_token():
    assert await Tokens(command=(sys.executable, "-c", "print('three')")).token() == "three"
    program = f"import sys; print('{SECRET}'); sys.exit(3)"
    with pytest.raises(TokenError, match="ended with 3 and a token") as refused:
        await Tokens(command=(sys.executable, "-c", program)).token()
    assert SECRET not in str(refused.value)
    with pytest.raises(TokenError, match="No such file"):
        await Tokens(command=("/nowhere/program",)).token()


async def test_a_command_that_hangs_is_ended_with_what_it_started(monkeypatch, tmp_path):
    """A shell's child holds the pipe that is read."""
    monkeypatch.setattr("streams.security.TOKEN_TIMEOUT_S", 0.5)
    noted = tmp_path / "child"
    script = f"sleep 300 & echo $! > {noted}; wait; echo token"
    with pytest.raises(TokenError, match="took too long"):
        await Tokens(command=("/bin/sh", "-c", script)).token()
    for _ in range(100):
        if not alive(int(noted.read_text())):
            return
        await asyncio.sleep(0.05)
    pytest.fail("its child goes on")


@pytest.mark.parametrize("program", ["yes", "printf 'a\\001b'", "printf 'a\\nb'"])
async def test_what_is_no_token_is_refused(program):
    with pytest.raises(TokenError, match="something that is no token"):
        await Tokens(command=("/bin/sh", "-c", program)).token()
