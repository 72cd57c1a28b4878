"""Refusals of transaction templates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest

from schemas.ledger.templates import Template
from services.ledger import templates
from tests.kit.scenario import Outcome
from tests.unit.ledger.book import Book
from tests.unit.ledger.flows import FlowBook, flow
from tests.unit.ledger.refusing import refused

_PAY: Final[dict[str, Any]] = {
    "amounts": ["price"],
    "flows": [flow({"variable": "price"}, ["alice"], ["bob"])],
}
#: A template that any book can have.
PAYING: Final = Template.model_validate(_PAY)
_HALF: Final = {"numerator": 1, "denominator": 2}


def changed(**more: Any) -> dict[str, Any]:
    """The template with its flow changed."""
    return _PAY | {"flows": [_PAY["flows"][0] | more]}


#: Pointer below ``/template`` -> a template that means nothing there.
INVALID: Final[dict[str, dict[str, Any]]] = {
    "/flows/0/amount": changed(amount={"variable": "price", "fixed": 1}),
    "/flows/0/amount/variable": changed(amount={"variable": "prize"}),
    "/flows/0/sources/0/account": changed(sources=[{"account": {}}]),
    "/flows/0/sources/0/account/variable": changed(sources=[{"account": {"variable": "buyer"}}]),
    "/flows/0/sources/0/keep": changed(sources=[{"account": {"code": "bob"}, "keep": {}}]),
    "/flows/0/destinations": changed(destinations=[{"account": {"code": "bob"}, "share": _HALF}]),
    "/flows/0/destinations/0/share": changed(
        destinations=[{"account": {"code": "bob"}, "share": {"numerator": 3, "denominator": 2}}, {}]
    ),
    "/accounts": _PAY | {"accounts": ["price"]},
    "": _PAY | {"amounts": ["price", "fee"]},
}


def invalid(pointer: str, template: dict[str, Any]) -> Callable[[Book], tuple[Outcome, str]]:
    """A case."""
    return lambda _: (FlowBook().define("wrong", template), f"/template{pointer}")


for _pointer, _template in INVALID.items():
    refused("template-invalid")(invalid(_pointer, _template))


@refused("template-invalid")
def _(_: Book) -> tuple[Outcome, str]:
    """More than one remainder, and shares that are more than the whole."""
    shares = [{"share": _HALF}, {"share": {"numerator": 2, "denominator": 3}}, {}]
    FlowBook().define("two", changed(destinations=[{}, {}])).rejected("template-invalid")
    return FlowBook().define("much", changed(destinations=shares)), "/template/flows/0/destinations"


@refused("account-not-found")
def _(_: Book) -> tuple[Outcome, str]:
    template = changed(sources=[{"account": {"code": "nobody"}}])
    return FlowBook().define("pay", template), "/template/flows/0/sources/0/account/code"


@refused("account-not-found")
def _(_: Book) -> tuple[Outcome, str]:
    book = FlowBook()
    template = changed(destinations=[{"account": {"variable": "payee"}}]) | {"accounts": ["payee"]}
    book.define("pay", template).accepted()
    book.ids["ghost"] = book.ledger
    return book.apply("pay", {"price": 1}, accounts={"payee": "ghost"}), "/accounts/payee"


@refused("too-many-templates")
def _(_: Book) -> tuple[Outcome, str]:
    book = FlowBook()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templates, "MAX_TEMPLATES", 1)
        book.define("one", _PAY).accepted()
        book.define("one", _PAY).accepted()
        return book.define("two", _PAY), "/name"


@refused("template-not-found")
def _(_: Book) -> tuple[Outcome, str]:
    return FlowBook().apply("pay", {"price": 1}), "/name"


@refused("template-changed")
def _(_: Book) -> tuple[Outcome, str]:
    book = FlowBook()
    book.define("pay", _PAY).accepted()
    return book.apply("pay", {"price": 1}, version=2), "/version"


@refused("variable-missing")
def _(_: Book) -> tuple[Outcome, str]:
    book = FlowBook()
    book.define("pay", _PAY).accepted()
    return book.apply("pay", {}), "/amounts/price"


@refused("variable-unknown")
def _(_: Book) -> tuple[Outcome, str]:
    book = FlowBook()
    book.define("pay", _PAY).accepted()
    return book.apply("pay", {"price": 1}, accounts={"payee": "bob"}), "/accounts/payee"


@refused("sources-insufficient")
def _(_: Book) -> tuple[Outcome, str]:
    book = FlowBook()
    book.define("pay", _PAY).accepted()
    return book.apply("pay", {"price": 100_001}), "/amounts"


@refused("nothing-to-move")
def _(_: Book) -> tuple[Outcome, str]:
    book = FlowBook()
    book.define("pay", _PAY).accepted()
    return book.apply("pay", {"price": 0}), "/amounts"


@refused("metadata-too-large")
def _(_: Book) -> tuple[Outcome, str]:
    book = FlowBook()
    book.define("pay", _PAY).accepted()
    return book.apply("pay", {"price": 1}, metadata={f"k{n}": "v" for n in range(32)}), "/metadata"


@refused("currency-mismatch")
def _(_: Book) -> tuple[Outcome, str]:
    book = FlowBook()
    book.open("dollars", currency="USD")
    book.define("pay", changed(destinations=[{"account": {"code": "dollars"}}])).accepted()
    return book.apply("pay", {"price": 1}), "/name"


@refused("ceiling-exceeded")
def _(_: Book) -> tuple[Outcome, str]:
    """Limits hold, and the pointer is at the variable that names the account."""
    book = FlowBook()
    book.open("purse", ceiling=5)
    template = changed(destinations=[{"account": {"variable": "payee"}}]) | {"accounts": ["payee"]}
    book.define("pay", template).accepted()
    return book.apply("pay", {"price": 6}, accounts={"payee": "purse"}), "/accounts/payee"
