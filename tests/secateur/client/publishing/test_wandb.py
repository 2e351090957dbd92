"""Publishing to W&B: its own library writes the run to a folder, as it does without a network, and is read back."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from secateur.client.errors import NotPublishable, TargetFailed
from secateur.client.publishing.target import Published
from secateur.client.publishing.tracked import curve, figures, parameters
from tests.fixtures.finished_jobs import a_report, downloaded, finished_job, its_files
from tests.fixtures.hub_server import Answer, serving
from tests.fixtures.scripted_service import JOB

pytestmark = pytest.mark.thorough  # the library starts a process of its own


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that runs are written to; nothing of this user's is read or written."""
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "WANDB_CONFIG_DIR": str(tmp_path / "config"),
        "WANDB_CACHE_DIR": str(tmp_path / "cache"),
        "WANDB_DATA_DIR": str(tmp_path / "data"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "NETRC": str(tmp_path / "netrc"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    yield tmp_path
    import wandb

    wandb.teardown()  # its process has the settings of this test


def push(to: str, **options: Any) -> Published:
    fake = finished_job()
    with fake.client() as client:
        done: Published = client.jobs.publish(JOB, to, quiet=True, **options)
    assert downloaded(fake) == []
    return done


def records(folder: Path) -> list[Any]:
    """All that was written of a run, once its end was: the library's process may still be at it."""
    give_up = time.monotonic() + 120
    while True:
        found = list(_records(folder))
        if any(record.HasField("exit") for record in found):
            return found
        assert time.monotonic() < give_up
        time.sleep(0.05)


def _records(folder: Path) -> Iterator[Any]:
    """What a run's file holds: protocol buffers in a log of blocks of 32 KiB, as LevelDB has them."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("*.wandb")
    data, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        if place + 7 + length > len(data):
            return
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def items(pairs: Any) -> dict[str, Any]:
    return {pair.key or "/".join(pair.nested_key): json.loads(pair.value_json) for pair in pairs}


def test_a_job_is_a_run() -> None:
    done = push("wandb:team/pruning")
    assert (done.target, done.version) == ("wandb:team/pruning", f"{JOB}-recovered")
    report = a_report()
    found = records(Path(done.url))
    run = next(record.run for record in found if record.HasField("run"))
    assert (run.entity, run.project, run.run_id) == ("team", "pruning", done.version)
    config = items(run.config.update)
    assert {name: config[name] for name in parameters(report)} == parameters(report)
    assert (config["secateur.job"], config["label.commit"]) == (JOB, "abc123")
    summary: dict[str, Any] = {}
    for record in found:
        summary |= items(record.summary.update)
    told = figures(report, "recovered")
    assert {name: summary[name] for name in told} == pytest.approx(told)
    history = [items(record.history.item) for record in found if record.HasField("history")]
    losses = {step: values["recovery/loss"] for step, values in curve(report)}
    assert {point["_step"]: point["recovery/loss"] for point in history} == pytest.approx(losses)
    (artifact,) = (record.artifact for record in found if record.HasField("artifact"))
    referred = {entry.path: entry.ref for entry in artifact.manifest.contents}
    model = [path for path in its_files(report) if path.startswith("recover/checkpoint/")]
    assert referred == {path: f"http://service/jobs/{JOB}/artifacts/{path}" for path in model}
    assert not any(record.HasField("files") for record in found)


def test_again_it_is_the_same_run() -> None:
    first, again = push("wandb:pruning"), push("wandb:pruning")
    assert first.version == again.version
    versions = [
        record.artifact.digest
        for done in (first, again)
        for record in records(Path(done.url))
        if record.artifact.digest
    ]
    assert len(versions) == 2
    assert len(set(versions)) == 1


def test_a_key_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 3)
    refusal: Answer = (401, {}, b'{"errors": ["0123456789abcdef0123456789abcdef0123456789abcdef"]}')
    with serving(lambda *_: refusal, lambda _: refusal) as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        with pytest.raises(TargetFailed, match="W&B refuses: set WANDB_API_KEY") as caught:
            push("wandb:pruning")
    assert "0123456789abcdef" not in str(caught.value)


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(TargetFailed, match=r"W&B at http://127\.0\.0\.1:9 does not answer"):
        push("wandb:pruning")


def test_a_setting_that_the_library_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "nonsense")
    with pytest.raises(TargetFailed, match="W&B does not take WANDB_BASE_URL: Input should be a valid URL"):
        push("wandb:pruning")


@pytest.mark.parametrize("place", ["", "a/b/c", "a b", "team/"])
def test_what_is_no_project(place: str) -> None:
    with pytest.raises(NotPublishable, match="names no project: write wandb:PROJECT"):
        push(f"wandb:{place}")
