"""Merkle trees and the hash chain: every proof leads to the root, and nothing else does."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.chain import (
    GENESIS,
    encode_row,
    event_id,
    inclusion_proof,
    leaf_hash,
    link,
    merkle_root,
    root_from_proof,
)

LEAVES = st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=40).map(
    lambda parts: [leaf_hash(bytes([i]) + p) for i, p in enumerate(parts)]
)


@given(LEAVES, st.data())
def test_every_leaf_has_a_proof(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = inclusion_proof(leaves, index)
    assert root_from_proof(leaves[index], proof) == merkle_root(leaves)
    assert root_from_proof(sha256(b"another").digest(), proof) != merkle_root(leaves)


@given(LEAVES, st.data())
def test_any_other_leaf_gives_another_root(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    changed = [*leaves[:index], sha256(leaves[index]).digest(), *leaves[index + 1 :]]
    assert merkle_root(changed) != merkle_root(leaves)


#: Published (docs/reference/proof-format.md): whoever verifies an export computes exactly these, for ever.
ROW = (
    "000700000002000300000008000000000000000700000010000102030405060708090a0b0c0d0e0f000000080000000000000001"
    "0000000b6c65646765722e782e7631000000177b2274656e616e74223a2261636d65222c226e223a307d"
    "000000137b2261223a302c2274657874223a22c3bc227d"
)
#: Leaves in the batch -> leaf of the last, root over all, chain hash.
VECTORS = {
    1: (
        "9d63faed7ad3085bba0a0e65ccfb83078f786536e234512dfcc77754449c97f2",
        "9d63faed7ad3085bba0a0e65ccfb83078f786536e234512dfcc77754449c97f2",
        "15ab14a1e37abc93105e939923bb65405de6b8515a19a131be35218c67cbeb2b",
    ),
    2: (
        "bc58d66593abc1f27327491c2c624fa0d1cb55f91e6561a744c6f6d926b0c1b5",
        "ea5aff48f3cc3fff833180e3252f0c90cafec7e39e199750f781ecd37920857c",
        "b231bb7a570b3919dad5126aa0b29609bd29e1049268b6df6d2ec09d24f7c589",
    ),
    3: (
        "e2c14db49850c3a230bb109d4bd8d2abaeab10d75d2a2ee194d2bc72c57d94f0",
        "db595fcf1a406eddb1aa286dd1db9729b64023a5b9cb2f2b51cbb00c1f5002bd",
        "7f789eebe58cf0ecf45e1e211548ff149b7e52de390a1356776a45dc4734925a",
    ),
    5: (
        "29eac343e7fbdacc41e01798d28e834ab9ca3e9039e91162ada9898b0537a97d",
        "d2eb23776f342fdc12761ce318444cabd0668886a2fb6cf0f81ba34e6a42667a",
        "5d78d216e5dd3c322e6b79912d969668ffcae8e9716d3bd6a0fe5330778b82bc",
    ),
}


@pytest.mark.parametrize("size", VECTORS)
def test_hashes_are_frozen(size: int) -> None:
    """How they are computed may change; what they are may not: every stored chain hash depends on them."""
    rows = [
        encode_row(
            3,
            7 + i,
            bytes(range(i, 16 + i)),
            1 + i % 2,
            b"ledger.x.v1",
            b'{"tenant":"acme","n":%d}' % i,
            '{"a":%d,"text":"ü"}'.encode() % i,
        )
        for i in range(size)
    ]
    leaves = [leaf_hash(row) for row in rows]
    root = merkle_root(leaves)
    chain = link(bytes([size]) * 32, 3, 7, 7 + size - 1, 1_700_000_000_000_000 + size, root)
    assert rows[0].hex() == ROW
    assert (leaves[-1].hex(), root.hex(), chain.hex()) == VECTORS[size]
    assert event_id(leaves[0]) == leaves[0].hex()[:32]
    assert bytes(32) == GENESIS


def test_an_empty_batch_and_a_leaf_that_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        merkle_root([])
    with pytest.raises(IndexError):
        inclusion_proof([bytes(32)], 1)
