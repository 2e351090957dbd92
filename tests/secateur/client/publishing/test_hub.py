"""Pushing to a hub: the library's own requests, answered by a stand-in that refuses what the hub refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants, snapshot_download

from secateur.client.errors import NotPublishable, TargetFailed
from secateur.client.publishing.target import Published
from secateur.contract.results import Licence
from tests.fixtures.finished_jobs import WEIGHTS, a_report, downloaded, finished_job, its_files
from tests.fixtures.pushed_hub import READ_ONLY, TOKEN, PushedHub
from tests.fixtures.scripted_service import JOB, Fake


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def push(fake: Fake, to: str = "hub:team/small", **options: Any) -> Published:
    with fake.client() as client:
        return client.jobs.publish(JOB, to, quiet=True, **options)


def refusal(fake: Fake, to: str = "hub:team/small", **options: Any) -> str:
    with pytest.raises(TargetFailed) as caught:
        push(fake, to, **options)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def files_of(hub: PushedHub, name: str = "team/small", branch: str = "main") -> dict[str, bytes]:
    return {path: content for path, content in hub.repositories[name].branches[branch].items() if path[0] != "."}


def test_the_final_checkpoint_goes_up_in_one_commit(pushed_hub: PushedHub) -> None:
    fake = finished_job()
    done = push(fake)
    repository = pushed_hub.repositories["team/small"]
    made = {path.removeprefix("recover/checkpoint/") for path in its_files(a_report()) if "recover/checkpoint" in path}
    assert set(files_of(pushed_hub)) == made == set(map(name_of, downloaded(fake)))
    assert files_of(pushed_hub)["model.safetensors"] == WEIGHTS
    assert files_of(pushed_hub)["additional_chat_templates/tool.jinja"] == b"{{ tool }}"
    assert repository.private
    assert repository.commits == ["initial commit", f"Job {JOB} of Secateur"]
    assert done == Published("hub:team/small", f"{pushed_hub.url}/team/small", repository.heads["main"], changed=True)


def name_of(path: str) -> str:
    return path.removeprefix("recover/checkpoint/")


def test_what_another_commits_meanwhile_is_not_mixed_with_it(pushed_hub: PushedHub) -> None:
    """Which of its weights are to go is known only of the commit that was looked at."""
    push(finished_job())
    pushed_hub.busy = True
    before = files_of(pushed_hub)
    other = finished_job(files={**its_files(a_report()), "recover/checkpoint/model.safetensors": b"other weights"})
    assert "somebody else has committed to team/small at" in refusal(other)
    assert files_of(pushed_hub) == before
    pushed_hub.busy = False
    assert push(other).changed


def test_the_same_again_is_no_second_commit(pushed_hub: PushedHub) -> None:
    first = push(finished_job())
    again = push(finished_job())
    assert (again.version, again.changed) == (first.version, False)
    assert len(pushed_hub.repositories["team/small"].commits) == 2
    assert len(pushed_hub.uploads) == 1


def test_weights_of_another_model_go_and_other_files_stay(pushed_hub: PushedHub) -> None:
    push(finished_job())
    left = pushed_hub.repositories["team/small"].branches["main"]
    left |= {"model-00001-of-00002.safetensors": b"a", "model.safetensors.index.json": b"{}", "notes.txt": b"mine"}
    push(finished_job())
    assert set(files_of(pushed_hub)) >= {"model.safetensors", "notes.txt"}
    assert not {"model-00001-of-00002.safetensors", "model.safetensors.index.json"} & set(files_of(pushed_hub))


def test_a_branch_and_a_public_repository(pushed_hub: PushedHub) -> None:
    done = push(finished_job(), "hub:team/small@nightly", public=True)
    assert done.url.endswith("/team/small/tree/nightly")
    assert set(files_of(pushed_hub)) == set()
    assert files_of(pushed_hub, branch="nightly")["config.json"] == b"{}"
    assert not pushed_hub.repositories["team/small"].private
    assert not push(finished_job(), "hub:team/small@nightly").changed


def test_a_name_alone_is_a_repository_of_the_tokens_owner(pushed_hub: PushedHub) -> None:
    assert push(finished_job(), "hub:small").target == "hub:somebody/small"
    assert set(pushed_hub.repositories) == {"somebody/small"}


def test_licence_and_base_model_are_in_the_metadata(pushed_hub: PushedHub) -> None:
    report = a_report()
    licence = Licence(name="other", title="llama-next", link="LICENSE")
    model = report.model.model_copy(update={"licence": licence})
    push(finished_job(report.model_copy(update={"pruned": report.pruned.model_copy(update={"model": model})})))
    files = files_of(pushed_hub)
    metadata = yaml.safe_load(files["README.md"].split(b"---\n")[1])
    assert metadata["base_model"] == report.model.id
    assert (metadata["license"], metadata["license_name"]) == ("other", "llama-next")
    assert files[metadata["license_link"]] == b"the licence"


def test_gguf_files_go_beside_a_checkpoint_or_alone(pushed_hub: PushedHub) -> None:
    push(finished_job(), variants=["recovered", "recovered-gguf-q8_0"])
    assert {"model-q8_0.gguf", "model.safetensors"} <= set(files_of(pushed_hub))
    fake = finished_job()
    push(fake, "hub:team/small-GGUF", variants=["recovered-gguf-q8_0"])
    files = files_of(pushed_hub, "team/small-GGUF")
    assert set(files) == {"README.md", "LICENSE", "model-q8_0.gguf"}
    assert b"llama-cli -m model-q8_0.gguf" in files["README.md"]
    assert not [path for path in downloaded(fake) if path.endswith(".safetensors")]
    assert not push(finished_job(), "hub:team/small-GGUF", variants=["recovered-gguf-q8_0"]).changed


def test_a_licence_that_the_hub_does_not_know_is_told_before_anything_is_sent(pushed_hub: PushedHub) -> None:
    report = a_report()
    model = report.model.model_copy(update={"licence": Licence(name="ours-alone")})
    changed = report.model_copy(update={"pruned": report.pruned.model_copy(update={"model": model})})
    assert '"license" must be one of' in refusal(finished_job(changed))
    assert pushed_hub.uploads == []


@pytest.mark.parametrize(
    ("token", "to", "words"),
    [
        ("hf_" + "WrongWrongWrongWrong0123456789ab", "hub:team/small", "refuses the token"),
        (READ_ONLY, "hub:team/small", "may not write to team/small"),
        (TOKEN, "hub:strangers/small", 'under the namespace "strangers"'),
    ],
)
def test_what_the_hub_refuses_is_refused_before_anything_is_downloaded(
    token: str, to: str, words: str, pushed_hub: PushedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    fake = finished_job()
    said = refusal(fake, to)
    assert words in said
    assert token not in said
    assert downloaded(fake) == []


def test_without_a_token(pushed_hub: PushedHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "none"))
    assert "set HF_TOKEN, or log in by `hf auth login`" in refusal(finished_job())
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert push(finished_job()).changed


def test_nobody_answers(pushed_hub: PushedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "the hub at http://127.0.0.1:9 does not answer" in refusal(finished_job())


def test_a_hub_that_does_not_speak_xet(pushed_hub: PushedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    assert "where a hub does not speak Xet, set HF_HUB_DISABLE_XET=1" in refusal(finished_job())
    assert pushed_hub.repositories["team/small"].commits == ["initial commit"]


def test_what_was_pushed_is_read_by_the_hubs_own_client(pushed_hub: PushedHub, tmp_path: Path) -> None:
    push(finished_job())
    got = Path(snapshot_download("team/small", endpoint=pushed_hub.url, cache_dir=tmp_path / "hub"))
    files = {str(path.relative_to(got)): path.read_bytes() for path in got.rglob("*") if path.is_file()}
    assert files == pushed_hub.repositories["team/small"].branches["main"]


def test_an_upload_that_is_refused_leaves_no_commit(pushed_hub: PushedHub) -> None:
    pushed_hub.full = True
    assert "answered 507" in refusal(finished_job())
    assert pushed_hub.repositories["team/small"].commits == ["initial commit"]


@pytest.mark.parametrize("place", ["", "a/b/c", "team/", "team/small@", "team/sm all", "https://hub/team/small"])
def test_what_is_no_repository(place: str) -> None:
    with pytest.raises(NotPublishable, match="names no repository: write hub:ORG/NAME"):
        push(finished_job(), f"hub:{place}")
