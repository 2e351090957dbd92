"""Writes requirements.lock: one exact pin for all that an installation of all extras brings, build tools included.

pip itself resolves (`--dry-run --report`), so the lock is what `pip install` does. It resolves against the package
index alone, without the machine's pip configuration: a mirror's local builds (such as torch 2.13.0+cpu) would satisfy
the same pin but bring other dependencies. On x86 Linux that makes the lock hold torch's CUDA packages, which a CPU
build does not ask for and so does not install: the file is used as constraints (`pip install -c`).

    python .ci/lock.py            keep the pins that still fit, add and drop what pyproject.toml asks
    python .ci/lock.py --upgrade  resolve everything anew
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
EXTRAS = "worker,embedded,otel,dev,bitsandbytes"
PIP = "pip==26.3"


def resolve(python: Path, keep: Path | None) -> dict[str, str]:
    """Name → version of everything that pip would install into an empty environment."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    report = python.parent / "report.json"
    command = [str(python), "-m", "pip", "install", "--dry-run", "--ignore-installed", "--report", str(report)]
    command += ["--constraint", str(keep)] if keep else []
    # `editables` is what hatchling asks for when the installation is editable
    command += [str(ROOT / "secateur"), f"{ROOT}[{EXTRAS}]", *build, "editables", PIP]
    environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    subprocess.run(command, check=True, env=environment)
    found = json.loads(report.read_text())["install"]
    pins = {item["metadata"]["name"]: item["metadata"]["version"] for item in found}
    return {re.sub(r"[-_.]+", "-", name).lower(): version.split("+")[0] for name, version in pins.items()}


def main() -> None:
    keep = LOCK if LOCK.exists() and "--upgrade" not in sys.argv[1:] else None
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", PIP], check=True)
        pins = resolve(python, keep)
    for ours in ("secateur-client", "secateur-server"):
        pins.pop(ours)
    lines = ["# Made by `make lock`; use as constraints: pip install -c requirements.lock ...", ""]
    lines += [f"{name}=={version}" for name, version in sorted(pins.items())]
    fresh = LOCK.with_suffix(".lock.new")
    fresh.write_text("\n".join(lines) + "\n")
    fresh.replace(LOCK)
    print(f"{LOCK.name}: {len(pins)} pins")


if __name__ == "__main__":
    main()
