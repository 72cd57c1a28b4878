"""Signed heads: what a shard's history was, in the signer's word, kept where the database's superuser can not reach.

A signed head is a compact JWS (RFC 7515, ES256) whose payload names a service, a shard, a history, a position
and the chain hash there. Because the chain hash commits to everything before it, one signed head is enough to
find any edit, cut or rollback of what was recorded up to it. ``docs/reference/proof-format.md`` has the format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from nexafi.settings import Settings
from nexafi.signing import ALGORITHM, SigningKeys

TYPE: Final = "nexafi-head"
MAX_CHARS: Final = 4096
#: (service, shard).
Place: TypeAlias = tuple[str, int]


class InvalidHeadError(ValueError):
    """This text is not a head that one of the known keys signed."""


class Keys(Protocol):
    """Whoever has public keys."""

    def find(self, kid: str) -> ECKey | None:
        """The key with this id (RFC 7638 thumbprint)."""


class PublicKeys:
    """Keys of a JWK set, for whoever verifies and can not sign."""

    def __init__(self, jwks: str | bytes) -> None:
        keys = [ECKey.import_key(k) for k in json.loads(jwks)["keys"]]
        if not keys or any(k.curve_name != "P-256" for k in keys):
            raise ValueError("a JWK set with P-256 keys is needed")
        self._keys = {key.thumbprint(): key for key in keys}

    def find(self, kid: str) -> ECKey | None:
        """The key with this id."""
        return self._keys.get(kid)


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A shard's history up to ``position`` (inclusive), as it was at ``time_us``.

    ``supersedes`` is set by an operator after a restore: the position and chain hash (hex) of the head that no
    longer holds, with ``reason``.
    """

    service: str
    shard: int
    history: str
    position: int
    chain_hash: str
    time_us: int
    supersedes: tuple[int, str] | None = None
    reason: str = ""

    @property
    def place(self) -> Place:
        """(service, shard)."""
        return self.service, self.shard

    @property
    def key(self) -> bytes:
        """Kafka key: the compacted topic keeps the newest head of each shard."""
        return f"{self.service}/{self.shard}".encode()


def signing_keys(settings: Settings) -> SigningKeys:
    """The installation's keys for heads: another pair than that of access tokens. Made at the first start."""
    given = settings.head_signing_keys.get_secret_value() if settings.head_signing_keys else None
    return SigningKeys(settings.data_dir / "keys" / "heads.json", given)


def known_keys(settings: Settings) -> SigningKeys | None:
    """The installation's keys if this machine has them; verifying never makes any."""
    if settings.head_signing_keys is None and not (settings.data_dir / "keys" / "heads.json").exists():
        return None
    return signing_keys(settings)


def sign(head: SignedHead, keys: SigningKeys) -> str:
    """The head as a compact JWS, signed with the newest key."""
    key = keys.newest()
    payload: dict[str, Any] = {
        "service": head.service,
        "shard": head.shard,
        "history": head.history,
        "position": head.position,
        "chain": head.chain_hash,
        "time_us": head.time_us,
    }
    if head.supersedes is not None:
        payload["supersedes"] = {"position": head.supersedes[0], "chain": head.supersedes[1]}
        payload["reason"] = head.reason
    header = {"alg": ALGORITHM, "typ": TYPE, "kid": key.thumbprint()}
    body = json.dumps(payload, separators=(",", ":")).encode()
    return jws.serialize_compact(header, body, key, algorithms=[ALGORITHM])


def read(token: str, keys: Keys) -> SignedHead:
    """What a signed head says; :class:`InvalidHeadError` unless a known key signed exactly this."""
    if len(token) > MAX_CHARS:
        raise InvalidHeadError("too long for a signed head")
    try:
        header = jws.extract_compact(token.encode()).headers()
    except (JoseError, ValueError) as error:
        raise InvalidHeadError("not a signed head") from error
    if set(header) != {"alg", "typ", "kid"} or header["alg"] != ALGORITHM or header["typ"] != TYPE:
        raise InvalidHeadError("not a signed head: its header says otherwise")
    key = keys.find(header["kid"]) if isinstance(header["kid"], str) else None
    if key is None:
        raise InvalidHeadError(f"signed with a key that is not known ({str(header['kid'])[:43]})")
    try:
        payload = json.loads(jws.deserialize_compact(token, key, algorithms=[ALGORITHM]).payload)
        before = payload.get("supersedes")
        return SignedHead(
            str(payload["service"]),
            int(payload["shard"]),
            str(payload["history"]),
            int(payload["position"]),
            bytes.fromhex(payload["chain"]).hex(),
            int(payload["time_us"]),
            None if before is None else (int(before["position"]), bytes.fromhex(before["chain"]).hex()),
            str(payload.get("reason", "")),
        )
    except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidHeadError(f"the signature does not verify ({type(error).__name__})") from error


@dataclass(slots=True)
class Pins:
    """What signed heads say about one shard: its history, and chain hashes by position."""

    history: str
    chains: dict[int, bytes] = field(default_factory=dict)
    #: Why the signed heads of this shard contradict each other or can not be read.
    problem: str | None = None


@dataclass(slots=True)
class HeadBook:
    """Signed heads by shard, oldest first; those that an operator has superseded are left out."""

    heads: dict[Place, list[SignedHead]] = field(default_factory=dict)
    tokens: dict[Place, list[str]] = field(default_factory=dict)
    problems: dict[Place, str] = field(default_factory=dict)

    def add(self, place: Place, token: str, keys: Keys) -> None:
        """Take in a record that stands for ``place``, in the order in which it was published."""
        try:
            head = read(token, keys)
        except InvalidHeadError as error:
            self.problems[place] = f"a record that should be a signed head is none: {error}"
            return
        if head.place != place:
            self.problems[place] = f"there is a head of {head.service}/{head.shard} in its place"
            return
        earlier = self.heads.setdefault(place, [])
        if head.supersedes is not None and any(
            (h.position, h.chain_hash) == head.supersedes for h in earlier
        ):
            earlier.clear()
            self.tokens[place].clear()
        earlier.append(head)
        self.tokens.setdefault(place, []).append(token)

    def latest(self, place: Place) -> SignedHead | None:
        """The newest head of a shard."""
        heads = self.heads.get(place)
        return heads[-1] if heads else None

    def pins(self) -> dict[Place, Pins]:
        """What to compare each shard with."""
        out: dict[Place, Pins] = {}
        for place in {**self.heads, **self.problems}:
            heads = self.heads.get(place, [])
            pins = out[place] = Pins(heads[-1].history if heads else "", problem=self.problems.get(place))
            for head in heads:
                chain = bytes.fromhex(head.chain_hash)
                if pins.chains.setdefault(head.position, chain) != chain:
                    pins.problem = f"two different heads were signed for position {head.position}"
                if head.history != pins.history:
                    pins.problem = f"heads of two histories were signed: {head.history} and {pins.history}"
        return out


def book_of(records: Iterable[tuple[bytes | None, bytes | None]], keys: Keys) -> HeadBook:
    """The heads in the records (key, value) of the topic, in order."""
    book = HeadBook()
    for key, value in records:
        try:
            service, _, shard = (key or b"").decode().rpartition("/")
            place = (service, int(shard))
        except ValueError:
            place = ("", -1)
        if value is None:
            book.problems[place] = "a signed head was deleted from its topic"
        else:
            book.add(place, value.decode("utf-8", "replace"), keys)
    return book


def lines_of(book: HeadBook) -> Iterable[str]:
    """One JSON line for each head, to be kept by an auditor and given to ``nexafi audit verify --heads``."""
    for (service, shard), tokens in sorted(book.tokens.items()):
        for token in tokens:
            yield json.dumps({"service": service, "shard": shard, "head": token}, separators=(",", ":"))


def book_of_lines(lines: Iterable[str], keys: Keys) -> HeadBook:
    """Inverse of :func:`lines_of`. Raises ``ValueError`` for a line that is no such line."""
    book = HeadBook()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row: Mapping[str, Any] = json.loads(line)
            place, token = (str(row["service"]), int(row["shard"])), str(row["head"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} is not a signed head") from error
        book.add(place, token, keys)
    return book
