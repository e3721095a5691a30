"""A private authority for one deployment: it signs its servers' certificates and its devices', nothing else.

EC P-256 throughout. The authority may sign no further authority (path length 0); a server's certificate is good
for serving only, a device's for calling only, so neither can stand in for the other. RFC 5280.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from splitrt.errors import ConfigError

CLOCK_SKEW = timedelta(hours=1)  # a device without a battery for its clock may be behind
DNS_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A certificate and its private key, in PEM."""

    certificate_pem: bytes
    key_pem: bytes


class Authority:
    """The key that signs. Certificates it gives end when its own does."""

    def __init__(self, days: int, now: datetime | None = None) -> None:
        """days: how long its certificate and those it signs are valid. Raises ConfigError below 1."""
        if days < 1:
            raise ConfigError(f"certificates must be valid for at least 1 day, got {days}")
        start = datetime.now(UTC) if now is None else now
        self._from, self._until = start - CLOCK_SKEW, start + timedelta(days=days)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(f"splitrt authority {token_hex(4)}")  # two of them are not mistaken for each other
        self._certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pair(self) -> Pair:
        return _pair(self._certificate, self._key)

    def server(self, names: Iterable[str]) -> Pair:
        """For a server that is reached under these host names and addresses. Raises ConfigError for other text."""
        alternatives = [_host(name) for name in dict.fromkeys(names)]
        return self._issue("splitrt server", alternatives, ExtendedKeyUsageOID.SERVER_AUTH)

    def device(self, name: str) -> Pair:
        """For a device; the server knows it by this name. Raises ConfigError where it is no host name."""
        return self._issue(name, [_dns(name)], ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(self, common_name: str, alternatives: list[x509.GeneralName], usage: ObjectIdentifier) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            self._builder(_named(common_name), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(authority_key, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _pair(certificate, key)

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._from)
            .not_valid_after(self._until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )


def days_left(pem: bytes, now: datetime | None = None) -> float:
    """Days until the first of a PEM's certificates ends, negative afterwards. Raises ConfigError for other bytes."""
    try:
        ends = min(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(pem))
    except ValueError as error:
        raise ConfigError("a certificate in PEM is wanted") from error
    return (ends - (datetime.now(UTC) if now is None else now)) / timedelta(days=1)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,  # an EC key agrees on keys by signing
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return _dns(name)


def _dns(name: str) -> x509.DNSName:
    if len(name) > 64 or not DNS_NAME.fullmatch(name):  # 64: the most a common name holds
        raise ConfigError(f"a host name or address is wanted, got {name!r}")
    return x509.DNSName(name)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    plain = serialization.NoEncryption()
    return Pair(
        certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
        key_pem=key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
    )
