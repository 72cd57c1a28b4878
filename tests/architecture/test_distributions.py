"""Rule: our packages have plain names, so no installed distribution may claim one of them."""

from __future__ import annotations

from importlib.metadata import distributions, packages_distributions
from pathlib import PurePosixPath

from tests.kit.source import ROOMS

OURS = frozenset(ROOMS) | {"tests"}


def claimed(files: list[PurePosixPath]) -> set[str]:
    """Top-level names that these installed files take (a file system that folds case makes `Events` ours too)."""
    return {
        path.parts[0].removesuffix(".py").lower() for path in files if path.suffix == ".py" and path.parts
    }


def test_no_installed_distribution_claims_our_package_names() -> None:
    taken = {
        f"{dist.name} claims {name}"
        for dist in distributions()
        if dist.name.lower() != "nexafi"
        for name in claimed([PurePosixPath(str(f)) for f in dist.files or ()]) & OURS
    }
    assert taken == set()


def test_python_itself_finds_only_us_under_our_names() -> None:
    owners = packages_distributions()
    foreign = {name: owner for name in OURS if (owner := set(owners.get(name, [])) - {"nexafi"})}
    assert foreign == {}


def test_a_distribution_with_our_name_in_it_is_noticed() -> None:
    assert claimed([PurePosixPath("Events/__init__.py"), PurePosixPath("x-1.dist-info/METADATA")]) & OURS == {
        "events"
    }
