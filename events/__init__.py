"""The event engine: stores, shard heads, consumer loop, relay, snapshots, replay, hash chain and proofs."""
