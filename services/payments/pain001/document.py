"""Reading XML that somebody else wrote: no entities, no document type, bounded size and depth, with line numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_DEPTH: Final = 64


class UnreadableFileError(ValueError):
    """The file is not XML that may be read. ``reason`` is a stable code, ``line`` where it was noticed."""

    def __init__(self, reason: str, detail: str, line: int = 1) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.line = reason, detail, line


@dataclass(slots=True)
class Document:
    """A tree, the line on which each element begins, and the parent of each."""

    root: Element
    lines: dict[Element, int]
    parents: dict[Element, Element]
    _numbers: dict[Element, str] = field(default_factory=dict)

    def path(self, element: Element) -> str:
        """Where an element is, e.g. ``/Document/CstmrCdtTrfInitn/PmtInf[2]/CdtTrfTxInf[7]/Amt``."""
        steps: list[str] = []
        parent = self.parents.get(element)
        while parent is not None:
            if element not in self._numbers:
                self._number(parent)
            steps.append(local_name(element) + self._numbers[element])
            element, parent = parent, self.parents.get(parent)
        return "/" + "/".join([local_name(element), *reversed(steps)])

    def _number(self, parent: Element) -> None:
        """Number children of the same name, once for each parent: a file may have many refusals."""
        totals = Counter(child.tag for child in parent)
        counts: Counter[str] = Counter()
        for child in parent:
            counts[child.tag] += 1
            self._numbers[child] = f"[{counts[child.tag]}]" if totals[child.tag] > 1 else ""


class _Builder(TreeBuilder):
    """Builds the tree and remembers lines and parents."""

    def __init__(self) -> None:
        super().__init__()
        self.expat: Any = None
        self.lines: dict[Element, int] = {}
        self.parents: dict[Element, Element] = {}
        self._open: list[Element] = []

    def start(self, tag: Any, attrs: Any, /) -> Element:
        element = super().start(tag, attrs)
        self.lines[element] = self.expat.CurrentLineNumber
        if self._open:
            self.parents[element] = self._open[-1]
        self._open.append(element)
        if len(self._open) > MAX_DEPTH:
            raise UnreadableFileError(
                "nested-too-deeply", f"more than {MAX_DEPTH} levels", self.lines[element]
            )
        return element

    def end(self, tag: str, /) -> Element:
        self._open.pop()
        return super().end(tag)


def read(data: bytes) -> Document:
    """Parse; :class:`UnreadableFileError` for what is not well-formed, too large, or declares entities or a DTD."""
    if len(data) > MAX_BYTES:
        raise UnreadableFileError("file-too-large", f"more than {MAX_BYTES} bytes")
    builder = _Builder()
    parser = DefusedXMLParser(target=builder, forbid_dtd=True)
    builder.expat = parser.parser
    try:
        parser.feed(data)
        root: Element = parser.close()
    except ParseError as error:
        raise UnreadableFileError("not-well-formed", str(error), error.position[0]) from None
    except DefusedXmlException as error:
        line = builder.expat.CurrentLineNumber
        raise UnreadableFileError("forbidden-markup", f"{type(error).__name__}: not read", line) from None
    except (LookupError, ValueError) as error:
        if isinstance(error, UnreadableFileError):
            raise
        raise UnreadableFileError("unknown-encoding", str(error)) from None
    return Document(root, builder.lines, builder.parents)


def local_name(element: Element) -> str:
    """The tag without its namespace."""
    return str(element.tag).rpartition("}")[2]
