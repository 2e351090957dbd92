"""What may be published and what may not, whatever the target, with both clients."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from secateur.about import install_with
from secateur.client.errors import GatesFailed, NotPublishable, TargetFailed
from tests.fixtures.finished_jobs import a_report, downloaded, finished_job, its_files
from tests.fixtures.pushed_hub import PushedHub
from tests.fixtures.scripted_service import JOB, Fake

pytestmark = pytest.mark.usefixtures("runner")  # each test is run with both clients
HUB = "hub:team/small"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "secateur"


def publish(fake: Fake, to: str = HUB, **options: Any) -> Any:
    with fake.client() as client:
        return client.jobs.publish(JOB, to, quiet=True, **options)


def test_nothing_is_left_of_the_cache_unless_sending_failed(pushed_hub: PushedHub, cache: Path) -> None:
    fake = finished_job()
    pushed_hub.full = True
    with pytest.raises(TargetFailed):
        publish(fake)
    assert len(list(cache.rglob("model.safetensors"))) == 1
    pushed_hub.full = False
    assert publish(fake).changed
    assert list(cache.iterdir()) == []
    assert downloaded(fake).count("recover/checkpoint/model.safetensors") == 1


def test_a_folder_of_the_users_stays(pushed_hub: PushedHub, tmp_path: Path) -> None:
    publish(finished_job(), folder=tmp_path / "mine")
    assert (tmp_path / "mine" / "recover" / "checkpoint" / "LICENSE").is_file()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"state": "running"}, "is running: only what has succeeded can be published, so wait"),
        ({"state": "failed"}, "is failed: only"),
        ({"asked_of": JOB}, "answers a question and makes no model"),
    ],
)
def test_a_job_without_a_result_is_refused(more: dict[str, Any], words: str, pushed_hub: PushedHub) -> None:
    with pytest.raises(NotPublishable, match=words):
        publish(finished_job(**more))
    assert pushed_hub.requests == []


def test_a_job_that_failed_its_gates_is_published_only_when_told_to(pushed_hub: PushedHub) -> None:
    fake = finished_job(a_report(gates={"min_speedup": 1.0, "max_kl": 0.01, "max_parameters": 1}))
    with pytest.raises(GatesFailed, match=r"failed its gates \(max_kl and max_parameters\)"):
        publish(fake)
    assert pushed_hub.requests == downloaded(fake) == []
    assert publish(fake, even_if_failed=True).changed


def test_a_job_without_gates_is_published(pushed_hub: PushedHub) -> None:
    assert publish(finished_job(a_report(gates={}))).changed


def test_files_that_are_gone_are_missed(pushed_hub: PushedHub) -> None:
    report = a_report()
    left = {path: content for path, content in its_files(report).items() if not path.startswith("recover/checkpoint/")}
    with pytest.raises(NotPublishable, match="has no files of recovered: there is nothing under recover/checkpoint/"):
        publish(finished_job(report, left))
    assert pushed_hub.requests == []


@pytest.mark.parametrize("to", ["team/small", "ftp:x", "", "https://somebody:secret-word@host/x"])
def test_an_unknown_target_is_refused_with_those_that_there_are(to: str) -> None:
    fake = finished_job()
    with pytest.raises(NotPublishable, match=r"there is no target .*: write one of hub:ORG/NAME, ") as caught:
        publish(fake, to)
    assert "secret-word" not in str(caught.value)
    assert fake.requests == []


def test_an_extra_that_is_missing_is_named_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(NotPublishable) as caught:
        publish(finished_job())
    assert install_with("hub") in str(caught.value)
    assert '"secateur-client[hub] @ $' in str(caught.value)
