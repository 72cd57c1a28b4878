"""A model as it is shipped: ``model.json`` for people, and an ONNX file that carries all that decides.

The ONNX file's metadata hold the names of the inputs, what stands for a missing one, and the threshold; the card repeats
them. So one hash covers everything that can change a decision, and a card that says something else is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from services.ai.features import FEATURES

#: The baseline that comes with the product.
BUNDLED: Final = Path(__file__).parent / "models" / "fraud-baseline"
CARD_FILE: Final = "model.json"
MAX_MODEL_BYTES: Final = 256 * 1024 * 1024
#: Key in the ONNX file's metadata under which :class:`Inputs` stands as JSON.
METADATA_KEY: Final = "nexafi"

_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class ModelError(ValueError):
    """A model that must not be used: absent, changed, or not of this form. The text names the file."""


class Inputs(BaseModel):
    """What decides beside the graph. ``features`` are in the order of the input; ``missing`` stands for an absent one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    features: Annotated[list[str], Field(min_length=1, max_length=512)]
    missing: int
    threshold_bp: Annotated[int, Field(ge=1, le=10_000)]


class Card(BaseModel):
    """The model card in ``model.json``."""

    model_config = ConfigDict(extra="forbid")

    name: _Name
    version: _Name
    kind: str
    file: _Name
    sha256: _Sha256
    inputs: Inputs
    units: dict[str, str]
    intended_use: str
    limits: str
    trained_on: str
    calibration: list[dict[str, Any]]
    measured: dict[str, Any]


def read_card(folder: Path) -> Card:
    """The card in ``folder``; :class:`ModelError` when there is none or it can not be read."""
    path = folder / CARD_FILE
    try:
        return Card.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelError(f"{path}: {error}") from error


def read_model(folder: Path, card: Card) -> bytes:
    """Bytes of the model; :class:`ModelError` when they are not those that the card names."""
    path = folder / card.file
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MODEL_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path}: {error}") from error
    if len(data) > MAX_MODEL_BYTES:
        raise ModelError(f"{path}: larger than {MAX_MODEL_BYTES} bytes")
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise ModelError(f"{path}: its SHA-256 is {digest}, its card says {card.sha256}")
    return data


def check_inputs(card: Card, metadata: Mapping[str, str], file: str) -> None:
    """Refuse a model whose own metadata are not what its card says, or that asks for a feature we do not have."""
    try:
        inside = Inputs.model_validate_json(metadata.get(METADATA_KEY, ""))
    except ValidationError as error:
        raise ModelError(f"{file}: its metadata can not be read: {error}") from error
    if inside != card.inputs:
        raise ModelError(f"{file}: inputs or threshold are not those of its card")
    if unknown := sorted(set(inside.features) - FEATURES.keys()):
        raise ModelError(f"{file}: asks for features that there are not: {', '.join(unknown)}")
    if len(set(inside.features)) != len(inside.features):
        raise ModelError(f"{file}: names a feature twice")
