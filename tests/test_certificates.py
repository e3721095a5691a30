"""What a private authority signs, and what it refuses to."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from splitrt.certificates import Authority, Pair, days_left
from splitrt.errors import ConfigError

NOW = datetime(2031, 5, 4, 12, tzinfo=UTC)
NAMES: dict[str, x509.DNSName | x509.IPAddress] = {
    "edge.example": x509.DNSName("edge.example"),
    "10.0.0.5": x509.IPAddress(ipaddress.ip_address("10.0.0.5")),
    "::1": x509.IPAddress(ipaddress.ip_address("::1")),
}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(days=30, now=NOW)


def certificate(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate_pem)


def policy(authority: Authority, after: timedelta = timedelta()) -> PolicyBuilder:
    return PolicyBuilder().store(Store([certificate(authority.pair)])).time(NOW + after)


def test_the_authority_signs_certificates_and_no_further_authority(authority: Authority) -> None:
    own = certificate(authority.pair).extensions
    constraints = own.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = own.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature


@pytest.mark.parametrize("after", [timedelta(minutes=-59), timedelta(), timedelta(days=30, minutes=-1)])
@pytest.mark.parametrize("name", NAMES)
def test_a_server_is_verified_by_each_of_its_names_over_all_its_days(
    authority: Authority, name: str, after: timedelta
) -> None:
    server = authority.server(NAMES)
    policy(authority, after).build_server_verifier(NAMES[name]).verify(certificate(server), [])


def test_a_server_is_not_verified_by_another_name_after_its_days_or_by_another_authority(authority: Authority) -> None:
    server = certificate(authority.server(["edge.example"]))
    for builder, name in (
        (policy(authority), "other.example"),
        (policy(authority, timedelta(days=31)), "edge.example"),
        (policy(Authority(days=30, now=NOW)), "edge.example"),
    ):
        with pytest.raises(VerificationError):
            builder.build_server_verifier(x509.DNSName(name)).verify(server, [])


def test_a_device_is_verified_as_a_client_and_cannot_pass_for_a_server(authority: Authority) -> None:
    device = certificate(authority.device("robot-7"))
    verified = policy(authority).build_client_verifier().verify(device, [])
    assert verified.subjects == [x509.DNSName("robot-7")]
    with pytest.raises(VerificationError):
        policy(authority).build_server_verifier(x509.DNSName("robot-7")).verify(device, [])


def test_a_server_cannot_pass_for_a_device(authority: Authority) -> None:
    server = authority.server(["edge.example"])
    usages = certificate(server).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH]
    with pytest.raises(VerificationError):
        policy(authority).build_client_verifier().verify(certificate(server), [])


@pytest.mark.parametrize("name", ["", "two words", "../etc", "-x", "a..b", "x" * 65, "edge.example:7070"])
def test_a_name_that_is_no_host_name_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(ConfigError, match="a host name or address is wanted"):
        authority.server([name])
    with pytest.raises(ConfigError, match="a host name or address is wanted"):
        authority.device(name)


def test_days_left_are_those_of_the_first_to_end(authority: Authority) -> None:
    later = Authority(days=90, now=NOW).pair.certificate_pem
    both = later + authority.pair.certificate_pem
    assert days_left(both, NOW) == pytest.approx(30)
    assert days_left(both, NOW + timedelta(days=31)) == pytest.approx(-1)
    with pytest.raises(ConfigError, match="PEM"):
        days_left(b"no certificate")


def test_an_authority_of_no_days_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 day, got 0"):
        Authority(days=0)
