"""Partition of a tenant: murmur2(tenant) % N, the Java client's default partitioner, for everybody.

librdkafka's default is CRC32: a producer that uses it must be told `partitioner=murmur2_random`.
"""

from __future__ import annotations

from functools import lru_cache


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 (org.apache.kafka.common.utils.Utils), made positive as the default partitioner does."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    h = (0x9747B28C ^ length) & mask
    body = length & ~3
    for i in range(0, body, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k ^= k >> 24
        h = (h * m & mask) ^ (k * m & mask)
    tail = data[body:]
    if tail:
        h ^= int.from_bytes(tail, "little")
        h = h * m & mask
    h ^= h >> 13
    h = h * m & mask
    h ^= h >> 15
    return h & 0x7FFFFFFF


@lru_cache(maxsize=100_000)
def partition_of(tenant: str, partitions: int) -> int:
    """The partition on which `tenant` lives in an epoch of `partitions` partitions."""
    return murmur2(tenant.encode()) % partitions
