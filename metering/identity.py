"""Identity of an event is (tenant, source, id), whatever else changed in a resend."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

DIGEST_BYTES = 16


def digest(tenant: str, source: str, id: str) -> bytes:
    """16 bytes of BLAKE2b over the three parts. NUL separates them: no part can hold it (event.py refuses it)."""
    return blake2b(f"{tenant}\0{source}\0{id}".encode(), digest_size=DIGEST_BYTES).digest()


def digests(tenant: str, sources: Sequence[str], ids: Sequence[str]) -> list[bytes]:
    """`digest` of each of a tenant's events."""
    if len(set(sources)) > 1:
        return [digest(tenant, source, id) for source, id in zip(sources, ids, strict=True)]
    head = f"{tenant}\0{sources[0]}\0".encode()
    return [blake2b(head + id.encode(), digest_size=DIGEST_BYTES).digest() for id in ids]
