"""The schema of one version of pain.001, from the one XSD that knows the differences between versions."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, register_namespace, tostring

import defusedxml.ElementTree as DefusedTree
from xmlschema import XMLSchema10

#: Versions (the last two digits of ``pain.001.001.NN``) whose differences the XSD knows. 04 to 07 were hardly used.
VERSIONS: Final = ("03", "08", "09", "10", "11", "12")
NAMESPACE: Final = "urn:iso:std:iso:20022:tech:xsd:pain.001.001."
_PLACEHOLDER: Final = "urn:nexafi:pain.001"
_SINCE, _UNTIL = "{urn:nexafi:version}since", "{urn:nexafi:version}until"
_XS: Final = "http://www.w3.org/2001/XMLSchema"


@lru_cache(maxsize=len(VERSIONS))
def schema_of(version: str) -> XMLSchema10:
    """The schema of ``version``, e.g. ``"08"``; ``KeyError`` for a version that is not known."""
    if version not in VERSIONS:
        raise KeyError(version)
    root: Element = DefusedTree.fromstring(Path(__file__).with_name("pain001.xsd").read_bytes())
    _keep(root, version)
    register_namespace("xs", _XS)
    text = tostring(root, encoding="unicode")
    # ElementTree drops the declaration of the default namespace, in which the types are named.
    text = text.replace("<xs:schema ", f'<xs:schema xmlns="{NAMESPACE}{version}" ', 1).replace(
        _PLACEHOLDER, NAMESPACE + version
    )
    return XMLSchema10(text)


def _keep(element: Element, version: str) -> None:
    for child in list(element):
        since, until = child.attrib.pop(_SINCE, "00"), child.attrib.pop(_UNTIL, "99")
        if since <= version <= until:
            _keep(child, version)
        else:
            element.remove(child)
