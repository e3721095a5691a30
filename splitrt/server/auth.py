"""Who is calling: a bearer token's owner, else the name in a client certificate, else the address.

Tokens are compared in constant time and never logged or echoed.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import SecretStr

from splitrt.errors import Unauthenticated

Metadata = Iterable[tuple[str, str | bytes]]
GATEWAY = "gateway"  # the principal of replicas' callers
ON_BEHALF_OF = "splitrt-principal-bin"  # whom a gateway calls for


def principal(tokens: Mapping[str, SecretStr], metadata: Metadata, identity: Iterable[bytes] | None, peer: str) -> str:
    """The name whose share a call counts against. Raises Unauthenticated when a token is asked for and none fits.

    identity: the certificate's names as gRPC gives them; peer: e.g. ipv4:127.0.0.1:4242.
    """
    if tokens:
        given = _bearer(metadata)
        owners = [name for name, token in tokens.items() if given and _same(token.get_secret_value(), given)]
        if not owners:
            raise Unauthenticated("a valid bearer token is wanted, got " + ("another" if given else "none"))
        return owners[0]
    for name in identity or ():
        return name.decode(errors="replace")
    address, _, _ = peer.rpartition(":")
    return address or "local"


def _bearer(metadata: Metadata) -> str:
    for key, value in metadata:
        if key == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
            return value.removeprefix("Bearer ")
    return ""


def _same(wanted: str, given: str) -> bool:
    return hmac.compare_digest(wanted.encode(), given.encode())


def call_principal(tokens: Mapping[str, SecretStr], context: Any) -> str:
    """The same for a gRPC call's context."""
    return principal(tokens, context.invocation_metadata() or (), context.peer_identities(), context.peer())


def bearer(token: SecretStr) -> tuple[tuple[str, str | bytes], ...]:
    """Metadata of a call that shows this token."""
    return (("authorization", f"Bearer {token.get_secret_value()}"),)


def called_by(tokens: Mapping[str, SecretStr], context: Any) -> str:
    """Whom a gateway calls for. Raises Unauthenticated where it is no gateway of ours."""
    call_principal(tokens, context)
    named = dict(context.invocation_metadata() or ()).get(ON_BEHALF_OF, b"")
    return named.decode(errors="replace") if isinstance(named, bytes) else named
