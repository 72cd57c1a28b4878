"""Whether a contract may change in place: only additions inside a version, anything else is ``vN+1``.

* A **command** is written by callers and read by us: whatever the old schema accepted, the new one must.
* An **event** is also read by people we do not know, and history keeps old ones for ever: what was there
  stays exactly as it was, in both directions; optional fields may be added.
* A **reply** is written by us and read by callers: like an event.

The checker knows the JSON Schema keywords that our models produce and refuses to judge any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

#: Keywords that carry no rule. ``default`` is judged for events: it says what history without the field means.
_ANNOTATIONS = frozenset({"$id", "$schema", "$defs", "title", "description", "examples", "default"})
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_KNOWN = (
    _ANNOTATIONS
    | frozenset(_LOWER)
    | frozenset(_UPPER)
    | frozenset(
        {
            "type",
            "enum",
            "const",
            "pattern",
            "format",
            "items",
            "properties",
            "required",
            "additionalProperties",
            "patternProperties",
            "propertyNames",
            "anyOf",
            "$ref",
        }
    )
)


class UnknownKeywordError(ValueError):
    """A schema uses a keyword that this checker can not judge."""


def breaking(kind: str, old: Schema, new: Schema) -> list[str]:
    """Sentences that say what breaks between two schemas of one type; empty when every change is an addition."""
    found = list(_narrowed(_resolved(old), _resolved(new), ""))
    if kind != "commands":
        found += [
            f"{sentence} (for readers of the old version)"
            for sentence in _narrowed(_resolved(new), _resolved(old), "", readers=True)
        ]
        found += list(_other_default(_resolved(old), _resolved(new), ""))
    return list(dict.fromkeys(found))


def _resolved(schema: Schema, defs: Schema | None = None, path: tuple[str, ...] = ()) -> Schema:
    """``schema`` with every local ``$ref`` replaced by what it names, and without annotations but defaults."""
    defs = schema.get("$defs", {}) if defs is None else defs
    out: Schema = {}
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        if name in path:
            raise UnknownKeywordError(f"recursive model {name}")
        out |= _resolved(defs[name], defs, (*path, name))
    for key, value in schema.items():
        if key not in _KNOWN:
            raise UnknownKeywordError(f"keyword {key!r} is not known to the compatibility checker")
        if key in {"properties", "patternProperties"}:
            out[key] = {name: _resolved(each, defs, path) for name, each in value.items()}
        elif key in {"items", "additionalProperties", "propertyNames"} and isinstance(value, dict):
            out[key] = _resolved(value, defs, path)
        elif key == "anyOf":
            out[key] = [_resolved(each, defs, path) for each in value]
        elif key == "default" or key not in _ANNOTATIONS | {"$ref"}:
            out[key] = value
    return out


def _narrowed(old: Schema, new: Schema, at: str, *, readers: bool = False) -> Iterator[str]:
    """What ``old`` accepts and ``new`` does not. ``readers``: ``new`` is the older side, so fields may be unknown."""
    where = at or "/"
    branches = old.get("anyOf")
    if branches is not None or "anyOf" in new:
        choices = new.get("anyOf", [new])
        for branch in branches or [old]:
            attempts = [list(_narrowed(branch, c, at, readers=readers)) for c in choices]
            if all(attempts):
                # The choice that comes nearest says best what is wrong.
                yield from min(attempts, key=len)
        return
    if not _types(old) <= _types(new):
        yield f"{where}: type {old.get('type', 'any')} became {new.get('type', 'any')}"
        return
    yield from _values(old, new, where)
    yield from _bounds(old, new, where)
    yield from _members(old, new, at, readers=readers)


def _types(schema: Schema) -> set[str]:
    kinds = schema.get("type")
    if kinds is None:
        return {"null", "boolean", "integer", "number", "string", "array", "object"}
    found = set(kinds if isinstance(kinds, list) else [kinds])
    return found | {"integer"} if "number" in found else found


def _values(old: Schema, new: Schema, where: str) -> Iterator[str]:
    before, after = _enumerated(old), _enumerated(new)
    if after is not None and (before is None or not all(v in after for v in before)):
        lost = "any value" if before is None else [v for v in before if v not in after]
        yield f"{where}: no longer allows {lost}"
    for keyword in ("pattern", "format"):
        if new.get(keyword) is not None and new[keyword] != old.get(keyword):
            yield f"{where}: {keyword} {old.get(keyword)!r} became {new[keyword]!r}"


def _enumerated(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values: list[Any] | None = schema.get("enum")
    return values


def _bounds(old: Schema, new: Schema, where: str) -> Iterator[str]:
    for keyword in _LOWER:
        if keyword in new and (keyword not in old or old[keyword] < new[keyword]):
            yield f"{where}: {keyword} {old.get(keyword)} became {new[keyword]}"
    for keyword in _UPPER:
        if keyword in new and (keyword not in old or old[keyword] > new[keyword]):
            yield f"{where}: {keyword} {old.get(keyword)} became {new[keyword]}"


def _members(old: Schema, new: Schema, at: str, *, readers: bool) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name, schema in before.items():
        if name in after:
            yield from _narrowed(schema, after[name], f"{at}/{name}", readers=readers)
        elif not readers:
            yield f"{at}/{name}: was removed"
    for name in new.get("required", []):
        if name not in old.get("required", []):
            yield (
                f"{at}/{name}: became required" if not readers else f"{at}/{name}: is no longer always there"
            )
    if old.get("additionalProperties", True) is not False and new.get("additionalProperties") is False:
        yield f"{at or '/'}: unknown fields are no longer allowed"
    for keyword in ("additionalProperties", "propertyNames", "items"):
        mine, theirs = old.get(keyword), new.get(keyword)
        if isinstance(theirs, dict):
            inner = mine if isinstance(mine, dict) else {}
            yield from _narrowed(inner, theirs, f"{at}/*", readers=readers)
    if new.get("patternProperties", {}) != old.get("patternProperties", {}):
        yield f"{at or '/'}: patternProperties changed"


def _other_default(old: Schema, new: Schema, at: str) -> Iterator[str]:
    for name, schema in old.get("properties", {}).items():
        other = new.get("properties", {}).get(name)
        if other is not None:
            if schema.get("default") != other.get("default") or ("default" in schema) != ("default" in other):
                yield f"{at}/{name}: default {schema.get('default')!r} became {other.get('default')!r}"
            yield from _other_default(schema, other, f"{at}/{name}")
    if isinstance(old.get("items"), dict) and isinstance(new.get("items"), dict):
        yield from _other_default(old["items"], new["items"], f"{at}/*")
