"""From the body of a request to the data of a command, validated once and serialised once.

The model of a body is the command's without what the path says. Its canonical bytes are the validated value
written again, so spaces, the order of fields and the order of metadata do not make another request.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Any, Final

import orjson
from pydantic import BaseModel, FailFast, TypeAdapter, ValidationError, create_model

from gateway.routes import CommandRoute
from nexafi.problems import ProblemError, validation_problem
from schemas.common.base import Contract

#: Fields that the gateway fills when it issues a secret.
_ISSUED: Final = {
    None: frozenset[str](),
    "client-secret": frozenset({"secret_hash"}),
    "api-key": frozenset({"key_hash", "prefix"}),
}


#: A body of one command; one that holds many (``CommandRoute.large``) may use all that the server reads.
MAX_BODY_BYTES: Final = 256 * 1024
#: Values in one body: a parsed JSON value takes 32 bytes and more, whatever it says.
MAX_VALUES: Final = 500_000
#: More field errors than this are counted and not listed.
MAX_LISTED: Final = 100


class BodyModel:
    """How the body of one route is read and turned into the command's data."""

    def __init__(self, route: CommandRoute) -> None:
        self.route = route
        #: Bytes that a body may have; ``None``: as many as the server reads.
        self.limit = None if route.large else MAX_BODY_BYTES
        command = route.command
        fields = command.model_fields
        self.model: type[BaseModel]
        if route.wrap is not None:
            wrapped = fields[route.wrap].annotation
            assert isinstance(wrapped, type)
            assert issubclass(wrapped, BaseModel)
            self.model = wrapped
        else:
            absent = {*route.parameters, *_ISSUED[route.issues]}
            left = {name: (info.annotation, info) for name, info in fields.items() if name not in absent}
            self.model = (
                command
                if len(left) == len(fields)
                else create_model(
                    f"{command.__name__}Body", __base__=Contract, __doc__=command.__doc__, **left
                )  # type: ignore[call-overload]
            )
        known = [name for name in route.parameters if name in fields]
        self.path_fields = tuple(known)
        # Bound once: reading these attributes of a model class goes through its metaclass every time.
        validator: Any = self.model.__pydantic_validator__
        serializer: Any = self.model.__pydantic_serializer__
        self._from_json, self._from_python = validator.validate_json, validator.validate_python
        self._to_json = serializer.to_json
        self.canonical = ordering(self.model)
        many = Annotated[list[self.model], FailFast()]  # type: ignore[name-defined]
        self._many: TypeAdapter[list[Any]] = TypeAdapter(many)

    def read(self, body: bytes) -> Any:
        """The validated value; a problem with a pointer when it is not valid. No body is an empty object."""
        bound(body)
        try:
            value = self._from_json(body or b"{}", strict=True)
        except ValidationError as error:
            raise problem_of(error) from None
        if body:
            refuse_repeated(body)
        return self.canonical(value)

    def read_line(self, line: bytes) -> Any:
        """One value; ``ValidationError`` when it is not valid, a problem when a name stands in it twice."""
        value = self._from_json(line, strict=True)
        refuse_repeated(line)
        return self.canonical(value)

    def read_many(self, body: bytes) -> list[Any]:
        """A JSON array of bodies; ``ValidationError`` when any is not valid."""
        return self._many.validate_json(body, strict=True)

    def read_python(self, value: Any) -> Any:
        """The same for a value that is parsed already; ``ValidationError`` when it is not valid."""
        return self.canonical(self._from_python(value, strict=True))

    def data(self, value: Any, params: dict[str, str], issued: dict[str, str] | None = None) -> bytes:
        """JSON bytes of the command. ``params`` are ids and ``issued`` is the gateway's own: both need no escaping."""
        written: bytes = self._to_json(value)
        parts = [f'"{name}":"{params[name]}"' for name in self.path_fields]
        if issued:
            parts += [f'"{name}":"{text}"' for name, text in issued.items()]
        if self.route.wrap is not None:
            parts.append(f'"{self.route.wrap}":')
            return b"{" + ",".join(parts).encode() + written + b"}"
        if not parts:
            return written
        head = b"{" + ",".join(parts).encode()
        return head + b"}" if written == b"{}" else head + b"," + written[1:]


class Digests:
    """Request hashes: an HMAC, so that a stored hash says nothing about a body that could be guessed."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, b"nexafi/request-hash/v1", sha256)

    def of(self, command_type: str, data: bytes) -> str:
        """64 hex digits over the command's type and canonical data."""
        return hmac.digest(self._key, command_type.encode() + b"\0" + data, sha256).hex()


def ordering(model: type[BaseModel]) -> Callable[[Any], Any]:
    """A function that orders the metadata of a value and of the transactions in it, in place.

    Every other order is the model's. What a model lacks is not looked for in its values.
    """
    fields = model.model_fields
    if "metadata" in fields:
        return _order_metadata
    return _order_transactions if "transactions" in fields else _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _order_metadata(value: Any) -> Any:
    metadata = value.metadata
    if metadata and len(metadata) > 1:
        ordered = sorted(metadata.items())
        metadata.clear()
        metadata.update(ordered)
    return value


def _order_transactions(value: Any) -> Any:
    for item in value.transactions:
        _order_metadata(item)
    return value


def bound(body: bytes) -> None:
    """Refuse a body that would take more memory to read than it is worth."""
    if len(body) > MAX_VALUES and body.count(b",") > MAX_VALUES:
        raise ProblemError("body-too-large", f"A body has at most {MAX_VALUES} values.", pointer="")


def refuse_repeated(body: bytes) -> None:
    """Refuse JSON in which an object has a name twice: readers differ in which of the two they take (RFC 8259, 4).

    No parser at hand says so, but a repeated name is gone after reading and writing, and so are its quotes.
    """
    try:
        once = orjson.dumps(orjson.loads(body))
    except (ValueError, TypeError) as error:
        raise ProblemError("malformed-json", f"Invalid JSON: {str(error)[:160]}", pointer="") from None
    if _quotes(body) != _quotes(once):
        raise ProblemError("malformed-json", "An object has a name twice.", pointer="")


def _quotes(text: bytes) -> int:
    """Quotes that begin or end a text, which escaped ones do not."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return text.count(b'"')


def problem_of(error: ValidationError) -> ProblemError:
    """The problem of a refused body; no input is repeated."""
    count = error.error_count()
    if count > MAX_LISTED:  # listing hundreds of thousands would cost more than the request
        return ProblemError("validation-failed", f"{count} fields are not valid.", pointer="")
    return validation_problem(error.errors(include_url=False, include_input=False))
