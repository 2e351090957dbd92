"""Some of the fuzzing of `benchmarks/fuzz_readers.py`, which runs thousands of cases by hand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[4] / "benchmarks" / "fuzz_readers.py"


@pytest.mark.thorough
def test_damaged_files_give_one_clear_error() -> None:
    command = [sys.executable, str(SCRIPT), "--cases", "120", "--seed", "1"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-4000:]
    found = re.search(r"(\d+) damaged files, no other error, nothing left behind", ended.stdout)
    assert found
    assert int(found[1]) >= 120
