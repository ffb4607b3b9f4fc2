"""A real Apache Kafka that lets nobody in without proof: TLS, SCRAM, mutual TLS, tokens, ACLs.

Its plain listener stays for the tests' own hands: whoever comes that way may do everything.
"""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest
from cryptography.hazmat.primitives import serialization

from streams import kafka_runtime
from streams.local_kafka import LocalKafka
from streams.permissions import LITERAL, OPERATIONS, PREFIXED, RESOURCES, Permission

USERS = {"worker": "s3cret-of-worker", "admin": "s3cret-of-admin"}
ALLOW = 3  # of Kafka's AclPermissionType
LOGIN = "org.apache.kafka.common.security"
PROPERTIES = {
    "ssl.keystore.type": "PEM",
    "ssl.truststore.type": "PEM",
    "listener.name.secure.sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "listener.name.secure.scram-sha-512.sasl.jaas.config": (
        f"{LOGIN}.scram.ScramLoginModule required;"
    ),
    "listener.name.tokens.sasl.enabled.mechanisms": "OAUTHBEARER",
    "listener.name.tokens.oauthbearer.sasl.jaas.config": (
        f'{LOGIN}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="x";'
    ),
    "listener.name.mutual.ssl.client.auth": "required",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS;User:admin;User:CN=client",
}


@dataclass(frozen=True)
class GuardedKafka:
    """The broker, and the files that its clients need."""

    kafka: LocalKafka
    ca_file: Path
    cert_file: Path
    folder: Path

    @property
    def bootstrap(self) -> str:
        """The tests' own door."""
        return self.kafka.bootstrap

    def address(self, listener: str) -> str:
        """SECURE (SCRAM), MUTUAL (certificates), TOKENS (OAUTHBEARER)."""
        return self.kafka.addresses(listener)


@contextmanager
def open_guarded(folder: Path) -> Iterator[GuardedKafka]:
    """Start it, with an authority, a server's and a client's certificate made for the occasion."""
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    server = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
    client = authority.issue_cert("client.test", common_name="client", key_type=trustme.KeyType.RSA)
    ca_file, cert_file, keystore = (folder / n for n in ("ca.pem", "client.pem", "server.pem"))
    authority.cert_pem.write_to_path(ca_file)
    client.private_key_and_cert_chain_pem.write_to_path(cert_file)
    key = serialization.load_pem_private_key(server.private_key_pem.bytes(), None)
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    keystore.write_bytes(pkcs8 + b"".join(blob.bytes() for blob in server.cert_chain_pems))
    with LocalKafka(
        kafka_runtime.from_lock(),
        listeners={"SECURE": "SASL_SSL", "MUTUAL": "SSL", "TOKENS": "SASL_SSL"},
        scram_users=USERS,
        properties={
            **PROPERTIES,
            "ssl.keystore.location": str(keystore),
            "ssl.truststore.location": str(ca_file),
            "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/CN=$1/",
        },
    ) as kafka:
        yield GuardedKafka(kafka, ca_file, cert_file, folder)


def unsigned_token(subject: str) -> str:
    """A token as the broker's development validator takes it: claims without a signature."""

    def part(data: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

    now = time.time()
    claims: dict[str, object] = {"sub": subject, "iat": now, "exp": now + 600}
    return f"{part({'alg': 'none'})}.{part(claims)}."


async def grant(bootstrap: str, principal: str, rule: Permission) -> None:
    """Allow one thing."""
    request = CreateAclsRequest(*_pattern(rule), principal, "*", OPERATIONS[rule.operation], ALLOW)
    await _ask(bootstrap, request)


async def revoke(bootstrap: str, principal: str, rule: Permission) -> None:
    """Allow it no more."""
    request = DeleteAclsRequest(*_pattern(rule), principal, "*", OPERATIONS[rule.operation], ALLOW)
    await _ask(bootstrap, request)


def _pattern(rule: Permission) -> tuple[int, str, int]:
    return RESOURCES[rule.resource], rule.name, PREFIXED if rule.prefixed else LITERAL


async def _ask(bootstrap: str, request: CreateAclsRequest | DeleteAclsRequest) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        answer = await client._send_request(request)
        rows = answer.to_object()
        codes = [each["error_code"] for name in rows if "responses" in name for each in rows[name]]
    finally:
        await client.close()
    assert codes == [0]
