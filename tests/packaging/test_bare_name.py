"""Nothing in the repository tells anybody to install `secateur` by its bare name, which is somebody else's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {"", ".cfg", ".html", ".in", ".ini", ".ipynb", ".js", ".json", ".lock", ".md", ".py", ".sh", ".toml", ".txt"}
TEXTS |= {".yaml", ".yml"}
LEFT_OUT = {".git", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "__pycache__", "data"}

# An installer, and then the name as a requirement: not a path, not a file's name, not `name @ address`.
_TOOL = r"\b(?:pip3?|pipx|uvx?|poetry|pdm|hatch|conda|mamba|pixi|easy_install)\b"
_INSTALLER = r"(?:\b(?:install|add|download|wheel|run|inject|lock|sync)\b|(?<!\w)--(?:with|from|spec)\b)"
_NAME = r"(?<![\w./@:-])(?<!subdirectory=)secateur(?:\[[\w,\s-]*\])?"
_NAME += r"(?!\s*@|[\w/.:[-]|\s+(?:up|api|worker|migrate|submit|gate|report)\b)"
BARE = re.compile(rf"{_TOOL}[^\n]*{_INSTALLER}[^\n]*?{_NAME}")
TOLD = re.compile(rf"\binstall(?:s|ing)?\s+[`'\"]*{_NAME}", re.IGNORECASE)


def tells(text: str) -> list[str]:
    """Lines that would fetch the name from the index."""
    joined = text.replace("\\\n", "  ").replace('"\n', '" \n')  # commands that go on in the next line
    lines = (line for line in joined.splitlines() if "secateur" in line.lower())  # the patterns are slow
    return [line.strip() for line in lines if BARE.search(line) or TOLD.search(line)]


@pytest.mark.parametrize(
    "line",
    [
        "      - run: pip install secateur",
        "pip install 'secateur[worker,embedded]'",
        'python -m pip install -c requirements.lock "secateur==0.1.0"',
        "`pip install secateur` is enough",
        "uv pip install --system secateur",
        "uvx --from secateur secateur gate",
        "pipx run --spec secateur secateur",
        "poetry add secateur",
        "pip install httpx \\\n    secateur",
        "the servers need it: install secateur[embedded], or set both",
    ],
)
def test_a_bare_name_is_found(line: str) -> None:
    assert tells(line)


@pytest.mark.parametrize(
    "line",
    [
        'pip install "secateur-client @ $SECATEUR_PACKAGE"',
        "pip install 'secateur-client @ git+https://git.example/secateur.git@0f3a#subdirectory=secateur'",
        "pip install 'secateur[server] @ git+https://git.example/secateur.git@0f3a'",
        "pip install ./secateur-0.1.0-py3-none-any.whl",
        "pip install -c requirements.lock '.[worker,embedded]'",
        "pip install https://files.example/secateur/secateur-0.1.0-py3-none-any.whl",
    ],
)
def test_an_address_of_ones_own_is_not(line: str) -> None:
    assert tells(line) == []


def test_nobody_is_told_to_install_the_bare_name() -> None:
    found, read = [], 0
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT)
        if LEFT_OUT & set(relative.parts) or path == Path(__file__) or path.suffix not in TEXTS or not path.is_file():
            continue
        read += 1
        found += [f"{relative}: {line}" for line in tells(path.read_text(encoding="utf-8", errors="replace"))]
    assert read > 200
    assert found == []
