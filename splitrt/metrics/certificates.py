"""When a certificate ends."""

from __future__ import annotations

from cryptography import x509


def expiry_s(pem: bytes) -> float:
    """Unix time at which the first of a file's certificates ends. Raises ValueError where there is none."""
    return min(one.not_valid_after_utc.timestamp() for one in x509.load_pem_x509_certificates(pem))
