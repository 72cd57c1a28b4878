#!/usr/bin/env python3
"""Verify a NexaFi history export (nexafi-history/1) with nothing but Python's standard library.

    python3 verify_history.py [--keys heads.jwks.json] [--heads heads.jsonl] FILE...

It shares no code with NexaFi: it follows proof-format.md. Exit status 0: every file is sound; 1: one is not.
"""

import argparse
import base64
import gzip
import hashlib
import json
import sys
import uuid

P = 2**256 - 2**224 + 2**192 + 2**96 - 1  # the curve P-256 (FIPS 186-5, SP 800-186)
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
     0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5)  # fmt: skip


def need(condition, otherwise):
    if not condition:
        raise ValueError(otherwise)


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def be(number, size):
    return number.to_bytes(size, "big", signed=True)


def leaf(shard, e):
    fields = [be(shard, 2), be(e["position"], 8), uuid.UUID(e["stream"]).bytes, be(e["version"], 8), e["type"].encode()]
    for name in ("metadata", "data"):
        fields.append(e[name].encode() if name in e else base64.b64decode(e[name + "_base64"], validate=True))
    return sha(b"\x00", be(len(fields), 2), *(part for f in fields for part in (be(len(f), 4), f)))


def merkle(level):
    while len(level) > 1:
        pairs = [sha(b"\x01", level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = (3 * a[0] ** 2 - 3) * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope**2 - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(k, point):
    total = None
    while k:
        total, point, k = (add(total, point) if k & 1 else total), add(point, point), k >> 1
    return total


def b64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def signed(token, keys):
    """Payload of a head that one of the keys signed (ES256); an exception otherwise."""
    header, payload, signature = token.split(".")
    key = keys[json.loads(b64(header))["kid"]]
    point = tuple(int.from_bytes(b64(key[c]), "big") for c in "xy")
    raw = b64(signature)
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    digest = int.from_bytes(sha(f"{header}.{payload}".encode()), "big")
    need(len(raw) == 64 and 0 < r < N and 0 < s < N, "a signature is damaged")
    need(json.loads(b64(header)) == {"alg": "ES256", "typ": "nexafi-head", "kid": key["kid"]}, "not a signed head")
    found = add(times(digest * pow(s, -1, N) % N, G), times(r * pow(s, -1, N) % N, point))
    need(found is not None and found[0] % N == r, "a signature does not verify")
    return json.loads(b64(payload))


def balanced(e):
    """A posted transaction sums to zero in each currency."""
    if e["type"] == "ledger.transaction-posted.v1":
        sums = {}
        for entry in json.loads(e["data"])["entries"]:
            need(entry["side"] in ("debit", "credit") and entry["amount"] > 0, "an entry is damaged")
            sums[entry["currency"]] = sums.get(entry["currency"], 0) + entry["amount"] * (1 if entry["side"] == "debit" else -1)
        need(not any(sums.values()), f"position {e['position']} does not sum to zero: {sums}")


def read(path):
    """Records of a whole and unchanged file, without its end record."""
    with open(path, "rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
    with (gzip.open if compressed else open)(path, "rb") as file:
        *body, end = file
    ended = {"end": {"lines": len(body), "sha256": hashlib.sha256(b"".join(body)).hexdigest()}}
    need(end == json.dumps(ended, separators=(",", ":")).encode() + b"\n", "the file is cut off or was changed")
    return [json.loads(line) for line in body]


def verify(path, keys, heads):
    """(events, chain hash, signed position) of a sound export; an exception for any other."""
    head, *records = read(path)
    need(head["format"] == "nexafi-history/1", "not an export")
    tokens = [r["head"] for r in records if "head" in r] if keys else []
    records = iter([r for r in records if "head" not in r])
    shard, position, chain, ends, versions = head["shard"], 0, bytes(32), {0: bytes(32).hex()}, {}
    for record in records:
        batch, leaves = record["batch"], []
        need(batch["first"] == position + 1 <= batch["last"], f"a gap after position {position}")
        while position < batch["last"]:
            e, position = next(records), position + 1
            need(e["position"] == position, f"a gap before position {position}")
            need(e["version"] == versions.get(e["stream"], 0) + 1, f"position {position} breaks its stream")
            versions[e["stream"]] = e["version"]
            balanced(e)
            leaves.append(leaf(shard, e))
        root = merkle(leaves)
        numbers = b"".join(be(n, 8) for n in (batch["first"], batch["last"], batch["time_us"]))
        chain = sha(b"\x02", chain, be(shard, 2), numbers, root)
        need((root.hex(), chain.hex()) == (batch["root"], batch["chain"]), f"the batch up to {position} was changed")
        ends[position] = chain.hex()
    need((position, chain.hex()) == (head["position"], head["chain"]), "it does not end where its first line says")
    vouched = 0
    for claim in [signed(token, keys) for token in [*tokens, *heads.get((head["service"], shard), [])]]:
        here = (claim["service"], claim["shard"], claim["history"]) == (head["service"], shard, head["history"])
        need(here and ends.get(claim["position"]) == claim["chain"], f"not the history that was signed: {claim}")
        vouched = max(vouched, claim["position"])
    return position, chain.hex(), vouched


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", help="the signer's public keys (JWK set); without it signatures are not looked at")
    parser.add_argument("--heads", help="signed heads that were kept elsewhere (lines of `nexafi audit heads`)")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    if options.heads and not options.keys:
        parser.error("--heads needs --keys")
    keys, heads, wrong = {}, {}, 0
    if options.keys:
        keys = {key["kid"]: key for key in json.load(open(options.keys))["keys"]}
    for row in map(json.loads, open(options.heads)) if options.heads else ():
        heads.setdefault((row["service"], row["shard"]), []).append(row["head"])
    for path in options.files:
        try:
            position, chain, vouched = verify(path, keys, heads)
            print(f"ok    {path}: {position} events, chain {chain}, signed up to {vouched or 'nothing'}")
        except Exception as error:  # whatever a damaged file makes fail is a finding
            wrong += 1
            print(f"WRONG {path}: {type(error).__name__}: {error}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
