"""``python -m cli.contracts.chart``: render the Helm chart into ``k8s/rendered`` and lock what was rendered.

The lock has the SHA-256 of every file of the chart and of every rendering, so that a machine without ``helm``
still finds a chart that was edited and not rendered again (decision 0009).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "k8s" / "nexafi"
RENDERED: Final = ROOT / "k8s" / "rendered"
LOCK: Final = RENDERED / "chart.lock.json"
#: Rendering -> value files on top of the chart's own.
RENDERINGS: Final[dict[str, tuple[str, ...]]] = {
    "default.yaml": (),
    "production.yaml": ("values-production.yaml",),
}
#: The version against which the chart renders; the oldest that it supports is in ``Chart.yaml``.
KUBERNETES: Final = "1.31.0"
_TIMEOUT_S: Final = 60


def helm() -> str | None:
    """The ``helm`` program: ``NEXAFI_HELM``, else the one on the path, else ``None``."""
    return os.environ.get("NEXAFI_HELM") or shutil.which("helm")


def render(program: str) -> dict[str, bytes]:
    """File name -> manifests, for every rendering."""
    out: dict[str, bytes] = {}
    for name, files in RENDERINGS.items():
        values = [argument for file in files for argument in ("--values", str(CHART / file))]
        command = [program, "template", "nexafi", str(CHART), "--namespace", "nexafi"]
        command += ["--kube-version", KUBERNETES, *values]
        out[name] = subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S).stdout
    return out


def lock(rendered: dict[str, bytes]) -> dict[str, Any]:
    """What ``chart.lock.json`` says for the chart as it is and these renderings."""
    inputs = {
        p.relative_to(CHART).as_posix(): p.read_bytes() for p in sorted(CHART.rglob("*")) if p.is_file()
    }
    return {
        "kubernetes": KUBERNETES,
        "chart": {name: hashlib.sha256(data).hexdigest() for name, data in inputs.items()},
        "rendered": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(rendered.items())},
    }


def committed() -> dict[str, bytes]:
    """The renderings as they lie in ``k8s/rendered``."""
    return {name: (RENDERED / name).read_bytes() for name in RENDERINGS}


def main() -> int:
    """Render and write; exit status 1 when there is no ``helm``."""
    program = helm()
    if program is None:
        print("helm is neither on the path nor named by NEXAFI_HELM", file=sys.stderr)
        return 1
    rendered = render(program)
    RENDERED.mkdir(parents=True, exist_ok=True)
    for name, data in rendered.items():
        (RENDERED / name).write_bytes(data)
        print(f"k8s/rendered/{name}: {data.count(b'kind: ')} kinds")
    LOCK.write_text(json.dumps(lock(rendered), indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
