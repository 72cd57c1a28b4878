"""Identifiers: deterministic, time-ordered and carrying their shard.

Every id that a command creates is a UUIDv8 (RFC 9562, section 5.8) with this layout::

    48 bits  Unix time in milliseconds (of the batch that created it)
     4 bits  version = 8
    10 bits  shard
     2 bits  \\
     2 bits  variant = 0b10
    62 bits  / 64 bits of xxh64(command id, kind, index)

so that a later command finds its shard in the id of the thing it changes, and a retry of the same
command can only ever create the same object. Python's salted ``hash()`` is never used.
Ids travel as 36-character lower-case strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache, partial
from hashlib import sha1 as _sha1
from typing import Final
from uuid import UUID

import orjson
from xxhash import xxh64_hexdigest, xxh64_intdigest

#: What UUIDv5 is made with; nothing here rests on its strength.
sha1: Final = partial(_sha1, usedforsecurity=False)
#: Namespace of command ids. Changing it would make every stored idempotency key forgotten.
COMMAND_NAMESPACE: Final = UUID("6f0c2f0e-6a5f-5b8e-9d35-4e0a0f3b7c11")
_COMMANDS: Final = sha1(COMMAND_NAMESPACE.bytes)
MAX_SHARDS: Final = 1024
_ID: Final = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
_THREE_DIGITS: Final = [f"{n:03x}" for n in range(4 * MAX_SHARDS)]
#: First hexadecimal digit of the hash -> its two top bits, and the variant's digit with its two low bits.
_TOP_BITS: Final = {f"{n:x}": (n >> 2, "89ab"[n & 3]) for n in range(16)}
_UUID: Final = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def command_id(tenant: str, principal: str, method: str, path: str, key: str) -> str:
    """The identity of a command: the same caller, route and ``Idempotency-Key`` give the same id."""
    named = _COMMANDS.copy()
    named.update(orjson.dumps([tenant, principal, method, path, key]))
    return _uuid5(named.hexdigest())


def derived_id(parent: str, *parts: str | int) -> str:
    """A command id that follows from another id, e.g. an item of a bulk or a timer of a hold."""
    return _uuid5(sha1(UUID(parent).bytes + "/".join(map(str, parts)).encode()).hexdigest())


def derived_ids(parent: str, count: int) -> Iterator[str]:
    """``derived_id(parent, i)`` for ``i < count``."""
    space = sha1(UUID(parent).bytes)
    for index in range(count):
        named = space.copy()
        named.update(b"%d" % index)
        yield _uuid5(named.hexdigest())


def _uuid5(digest: str) -> str:
    """The text of a UUIDv5 (RFC 9562, section 5.5) from the hex SHA-1 of namespace and name; no object is built."""
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def partition_for(command: str, partitions: int) -> int:
    """The shard on which a creating command lands (committed test vectors pin this function)."""
    return xxh64_intdigest(command.encode()) % partitions


@lru_cache(maxsize=64)
def _moment(time_ms: int) -> str:
    """The 48 bits of time and the version; the same for a whole batch."""
    return f"{time_ms >> 16 & 0xFFFFFFFF:08x}-{time_ms & 0xFFFF:04x}-8"


def make_id(time_us: int, shard: int, command: str, kind: str = "", index: int = 0) -> str:
    """A UUIDv8 for what ``command`` creates on ``shard`` in the batch of ``time_us`` (microseconds).

    Pieced together from text, because formatting five integers took twice as long on the writer's hot path.
    """
    rest = xxh64_hexdigest(f"{command}/{kind}/{index}".encode())
    high, variant = _TOP_BITS[rest[0]]
    return f"{_moment(time_us // 1000)}{_THREE_DIGITS[shard << 2 | high]}-{variant}{rest[1:4]}-{rest[4:]}"


def shard_of(identifier: str) -> int:
    """The shard inside an id made by :func:`make_id`; ``ValueError`` when it is not such an id."""
    if not _ID.match(identifier):
        raise ValueError(f"not a NexaFi id: {identifier[:64]!r}")
    return int(identifier[15:18], 16) >> 2


def is_id(value: str) -> bool:
    """Whether ``value`` has the form of :func:`make_id`."""
    return _ID.match(value) is not None


def is_uuid(value: str) -> bool:
    """Whether ``value`` is a canonical lower-case UUID of any version."""
    return _UUID.match(value) is not None
