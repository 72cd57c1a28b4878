"""``python -m cli.contracts``: write every generated document, or say what is not up to date."""

from __future__ import annotations

import argparse
import sys

from cli.contracts import documents


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when all is (now) up to date, 1 when not, 2 when a released contract would break."""
    parser = argparse.ArgumentParser(prog="./dev schemas", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when a document is not up to date"
    )
    parser.add_argument(
        "--release",
        action="store_true",
        help="freeze the schemas as they are: from now on they may only grow",
    )
    options = parser.parse_args(arguments)
    broken = documents.broken_since(documents.baseline())
    for sentence in broken:
        print(f"breaks a released contract: {sentence}", file=sys.stderr)
    if broken:
        print(
            "A breaking change is a new type: copy the model as vN+1 and register an upcaster.",
            file=sys.stderr,
        )
        return 2
    files = documents.generate()
    if options.release:
        files[documents.BASELINE] = documents.release()
    if options.check:
        found = list(documents.differences(files))
        for each in found:
            print(f"{each.path}: {each.why}")
        print("up to date" if not found else "run ./dev schemas and commit what it writes")
        return 1 if found else 0
    changed = documents.write(files)
    for path in changed:
        print(path)
    print(f"{len(changed)} of {len(files)} documents written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
