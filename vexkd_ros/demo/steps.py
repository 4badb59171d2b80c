"""Steps of the demo: their announcement, and the report of an earlier run that made the same."""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import vexkd_model
import vexkd_ros
from vexkd_model.files import write_json

REPORT = "report.json"
PRODUCTS = ("metrics.json", "picture.png", "page.html", "published/metadata.yaml")


def say(step: str) -> None:
    """Announce a step."""
    print(f"demo: {step}", file=sys.stderr, flush=True)


def identity(out: Path, packages: Sequence[Path], rates: Sequence[float]) -> str:
    """Hash what a run's results depend on: data (OUT/source.txt), packages, rates and the program itself."""
    program = [
        path
        for package in (vexkd_model, vexkd_ros)
        for path in sorted(Path(package.__path__[0]).rglob("*"))
        if path.suffix in (".py", ".html", ".js")
    ]
    digest = hashlib.sha256(json.dumps([str(package) for package in packages] + list(map(str, rates))).encode())
    for path in (out / "source.txt", *(package / "card.json" for package in packages), *program):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def earlier_report(out: Path, wanted: str) -> str | None:
    """Return what an earlier run of that identity reported; None where there is none, or a file of it is missing."""
    try:
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
        whole = report["identity"] == wanted and all((out / name).is_file() for name in PRODUCTS)
        return report["text"] if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep_report(out: Path, identity: str, text: str) -> None:
    """Keep a finished run's report, for `earlier_report`."""
    write_json(out / REPORT, {"identity": identity, "text": text})
