"""A data set on a hub, read by the real client from a small hub on this machine: streamed, and at one commit.

The client looks for its endpoint when it is imported, so it runs in a process of its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from tests.fixtures.hub_server import serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"
API, RESOLVE = "/api/datasets/some/set", f"/datasets/some/set/resolve/{COMMIT}/"
PROGRAM = """
import sys
from itertools import islice
from secateur.contract.options.texts import HubText
from workers.engine.text.sources import hub_revision, read_hub

text = HubText(source="hub", id="some/set", revision="main")
commit = hub_revision(text)
print(commit, *islice(read_hub(text, revision=commit), 3), sep="\\n")
"""


def shard(number: int) -> bytes:
    raw = io.BytesIO()
    parquet.write_table(arrow.table({"text": [f"row {number} {row}" for row in range(1000)]}), raw)
    return raw.getvalue()


@dataclass
class StreamHub:
    """One data set of three files, as far as its client asks."""

    files: dict[str, bytes] = field(
        default_factory=lambda: {f"data/train-0000{number}-of-00003.parquet": shard(number) for number in range(3)}
    )
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, wanted: str | None) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(path)
        if path.startswith(f"{API}/tree/{COMMIT}"):
            below = path.removeprefix(f"{API}/tree/{COMMIT}").strip("/")
            entries: list[dict[str, Any]] = [
                {"type": "file", "path": name, "size": len(raw), "oid": hashlib.sha1(raw).hexdigest()}
                for name, raw in self.files.items()
            ]
            found = entries if below else [{"type": "directory", "path": "data", "oid": "0" * 40, "size": 0}]
            return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()
        if path == API or path.startswith(f"{API}/revision/"):
            siblings = [{"rfilename": name} for name in self.files]
            body = {"id": "some/set", "sha": COMMIT, "siblings": siblings}
            return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()
        raw = self.files.get(path.removeprefix(RESOLVE))
        if raw is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        headers = {"ETag": f'"{hashlib.sha1(raw).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if wanted is None:
            return 200, headers, raw
        first, last = wanted.removeprefix("bytes=").split("-")
        start, stop = int(first), min(int(last or len(raw) - 1), len(raw) - 1) + 1
        return 206, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(raw)}"}, raw[start:stop]


@pytest.fixture
def hub() -> Iterator[StreamHub]:
    state = StreamHub()
    with serving(state.answer) as state.url:
        yield state


@pytest.mark.thorough
def test_rows_are_streamed_at_the_commit_of_the_branch(hub: StreamHub, tmp_path: Path) -> None:
    """And files that are not come to yet are not touched."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout.splitlines() == [COMMIT, "row 0 0", "row 0 1", "row 0 2"], done.stderr[-2000:]
    files = {path for path in hub.requests if path.endswith(".parquet")}
    assert files == {RESOLVE + "data/train-00000-of-00003.parquet"}
