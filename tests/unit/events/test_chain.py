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


def test_the_format_is_pinned() -> None:
    """Published: whoever verifies an export computes exactly these."""
    row = encode_row(3, 7, bytes(range(16)), 1, b"ledger.x.v1", b"{}", b'{"a":1}')
    leaf = leaf_hash(row)
    assert len(row) == 2 + 7 * 4 + 2 + 8 + 16 + 8 + 11 + 2 + 7
    assert event_id(leaf) == leaf.hex()[:32]
    root = merkle_root([leaf])
    assert root == leaf
    assert link(GENESIS, 3, 7, 7, 1_000, root) != link(GENESIS, 3, 7, 7, 1_001, root)
    assert link(GENESIS, 3, 7, 7, 1_000, root) != link(GENESIS, 4, 7, 7, 1_000, root)


def test_an_empty_batch_and_a_leaf_that_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        merkle_root([])
    with pytest.raises(IndexError):
        inclusion_proof([bytes(32)], 1)
