"""Hash chain and Merkle trees over stored history (SHA-256).

* A *leaf* is ``sha256(0x00 || row)`` where ``row`` is the event in PostgreSQL's binary tuple form: a
  big-endian int16 with the number of fields (7), then for each of shard (int16), position (int64),
  originator id (16 bytes), originator version (int64), topic (UTF-8), metadata (bytes), state (bytes)
  its length as int32 and its bytes. The very bytes that are copied into the table are hashed.
* A *node* is ``sha256(0x01 || left || right)``; an odd node at the end of a level moves up unchanged
  (RFC 9162, section 2.1, gives the same tree for every size).
* A *chain hash* is ``sha256(0x02 || previous || shard || first || last || time_us || root)`` with
  big-endian int16, int64, int64, int64.

The first half of a leaf, in hex, is the event's id: it follows from the content, wherever it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from struct import Struct
from typing import Final
from uuid import UUID

GENESIS: Final = bytes(32)
_ROW: Final = Struct(">hihiqi16siqi")
_LENGTH: Final = Struct(">i")
_LINK: Final = Struct(">hqqq")


def encode_row(
    shard: int, position: int, originator: bytes, version: int, topic: bytes, metadata: bytes, state: bytes
) -> bytes:
    """The binary tuple of an event: hashed as a leaf and copied as a row."""
    return b"".join(
        (
            _ROW.pack(7, 2, shard, 8, position, 16, originator, 8, version, len(topic)),
            topic,
            _LENGTH.pack(len(metadata)),
            metadata,
            _LENGTH.pack(len(state)),
            state,
        )
    )


def decode_row(row: bytes) -> tuple[int, int, UUID, int, str, bytes, bytes]:
    """The fields of an encoded row: shard, position, originator, version, topic, metadata, state."""
    _, _, shard, _, position, _, originator, _, version, length = _ROW.unpack_from(row)
    topic_end = _ROW.size + length
    (length,) = _LENGTH.unpack_from(row, topic_end)
    metadata_end = topic_end + 4 + length
    return (
        shard,
        position,
        UUID(bytes=originator),
        version,
        row[_ROW.size : topic_end].decode(),
        row[topic_end + 4 : metadata_end],
        row[metadata_end + 4 :],
    )


def leaf_hash(row: bytes) -> bytes:
    """Hash of an encoded row."""
    return sha256(b"\x00" + row).digest()


def event_id(leaf: bytes) -> str:
    """The CloudEvents id of the event with this leaf."""
    return leaf[:16].hex()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root over the leaves of one batch (at least one)."""
    if not leaves:
        raise ValueError("a batch has at least one event")
    level = leaves
    while len(level) > 1:
        pairs = len(level) // 2
        up = [sha256(b"\x01" + level[2 * i] + level[2 * i + 1]).digest() for i in range(pairs)]
        if len(level) % 2:
            up.append(level[-1])
        level = up
    return level[0]


def link(previous: bytes, shard: int, first: int, last: int, time_us: int, root: bytes) -> bytes:
    """The chain hash of a batch after ``previous``."""
    return sha256(b"\x02" + previous + _LINK.pack(shard, first, last, time_us) + root).digest()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[tuple[str, bytes]]:
    """Siblings from leaf ``index`` to the root, each with the side it stands on (``"L"`` or ``"R"``)."""
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    proof: list[tuple[str, bytes]] = []
    level = list(leaves)
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            proof.append(("L" if sibling < index else "R", level[sibling]))
        up = [sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            up.append(level[-1])
        level = up
        index //= 2
    return proof


def root_from_proof(leaf: bytes, proof: Sequence[tuple[str, bytes]]) -> bytes:
    """The root that this leaf and its siblings lead to."""
    node = leaf
    for side, sibling in proof:
        node = sha256(b"\x01" + (sibling + node if side == "L" else node + sibling)).digest()
    return node
