"""From a job's model to a checkpoint folder: local folders, GGUF files, and a small hub that is really asked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers import PreTrainedModel

from secateur.contract.errors import BadCheckpoint, InvalidInput, StageFailed, Unavailable
from secateur.contract.spec import HubModel, LocalModel
from tests.fixtures.hub_server import serving
from workers.engine.checkpoints import hub as hub_module
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.fingerprint import fingerprint
from workers.engine.checkpoints.resolve import resolve

SIZES = {"hidden_size": 64, "intermediate_size": 96, "vocab_size": 288}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Serves one repository, as much of the hub's HTTP as fetching a model takes."""

    repository: str
    files: dict[str, bytes]
    url: str = ""
    requests: list[str] = field(default_factory=list)
    failing: bool = False
    page: bytes | None = None  # given in place of every answer

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(path)
        api, plain = f"/api/models/{self.repository}", f"/{self.repository}/resolve/{COMMIT}/"
        if self.failing:
            return 503, {}, b""
        if self.page is not None:
            return 200, {}, self.page
        if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            siblings = [
                {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
                for name, data in self.files.items()
            ]
            return 200, {}, json.dumps({"id": self.repository, "sha": COMMIT, "siblings": siblings}).encode()
        if path.startswith(f"{api}/revision/"):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if path == f"{api}/tree/{COMMIT}":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in self.files.items()
            ]
            return 200, {}, json.dumps(entries).encode()
        if path.startswith(plain) and (data := self.files.get(path.removeprefix(plain))) is not None:
            return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}, data
        if path.startswith("/api/models/gated/"):
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        return 404, {"X-Error-Code": "RepoNotFound"}, b""


@pytest.fixture
def hub(single: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    files = {path.name: path.read_bytes() for path in single.iterdir()}
    files |= {"tokenizer.json": b"{}", "pytorch_model.bin": b"pickle", "onnx/model.json": b"{}", "README.md": b"x"}
    state = Hub("tiny/llama", files)

    with serving(lambda path, _: state.answer(path)) as state.url:
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state


@pytest.fixture(params=[False, True], ids=["", "without the library's bars"])
def _bars(request: pytest.FixtureRequest) -> Iterator[None]:
    """The library's progress bars, on and off: a stage switches them off."""
    before = are_progress_bars_disabled()
    (disable_progress_bars if request.param else enable_progress_bars)()
    yield
    (disable_progress_bars if before else enable_progress_bars)()


@pytest.mark.usefixtures("_bars")
def test_a_hub_model_is_fetched_at_its_commit(hub: Hub, single: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    resolved = resolve(
        HubModel(source="hub", id="tiny/llama"),
        cache=tmp_path / "cache",
        roots=[],
        progress=lambda done, total, unit: seen.append((done, total)),
    )
    assert (resolved.id, resolved.revision, resolved.origin) == ("tiny/llama", COMMIT, "hub")
    assert resolved.fingerprint == fingerprint(Checkpoint.open(single))
    assert Checkpoint.open(resolved.path).total_bytes == Checkpoint.open(single).total_bytes
    assert {path.name for path in resolved.path.iterdir()} == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert not [path for path in hub.requests if path.endswith(".bin") or "onnx" in path]
    assert seen[-1][0] == seen[-1][1] > 0


def test_a_fetched_commit_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    first = resolve(HubModel(source="hub", id="tiny/llama", revision="main"), cache=tmp_path / "cache", roots=[])
    hub.failing = True
    hub.requests.clear()
    again = resolve(
        HubModel(source="hub", id="tiny/llama", revision=first.revision), cache=tmp_path / "cache", roots=[]
    )
    assert again == first
    assert hub.requests == []


def test_a_download_that_the_disk_does_not_hold_is_told_before_it_begins(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, cache = HubModel(source="hub", id="tiny/llama"), tmp_path / "cache"
    left = {"pytorch_model.bin", "onnx/model.json"}
    needed = sum(len(data) for name, data in hub.files.items() if name not in left)
    free = needed - 1
    monkeypatch.setattr(hub_module, "shutil", SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=free)))
    with pytest.raises(StageFailed, match=r"'tiny/llama' takes 0\.0 GB to download, and the worker's disk has 0\.0 GB"):
        resolve(model, cache=cache, roots=[])
    assert not [path for path in hub.requests if "/resolve/" in path]
    free = needed
    resolve(model, cache=cache, roots=[])
    free = 0  # it is here
    resolve(model, cache=cache, roots=[])
    hub.files["tokenizer.json"] = b'{"a": 1}'  # and what is here, the weights above all, is not counted again
    free = 8
    resolve(model, cache=cache, roots=[])


@pytest.mark.parametrize(
    ("id", "revision", "pointer", "sentence"),
    [
        ("tiny/absent", None, "id", "does not exist"),
        ("gated/llama", None, "id", "is gated"),
        ("tiny/llama", "v9", "revision", "has no revision 'v9'"),
        ("a--b/c", None, "id", "is not a repository's name"),
    ],
)
def test_what_the_hub_does_not_have(
    id: str, revision: str | None, pointer: str, sentence: str, hub: Hub, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=sentence) as caught:
        resolve(HubModel(source="hub", id=id, revision=revision), cache=tmp_path / "cache", roots=[])
    assert caught.value.errors[0].pointer == pointer
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("pytorch_model.bin", "only pickled weights; weights must be safetensors or GGUF"),
        ("model.gguf", "only GGUF files"),
        ("notes.txt", "has no weights"),
    ],
)
def test_repositories_without_safetensors(file: str, sentence: str, hub: Hub, tmp_path: Path) -> None:
    hub.files = {"config.json": b"{}", file: b"x"}
    with pytest.raises(BadCheckpoint, match=sentence):
        resolve(HubModel(source="hub", id="tiny/llama"), cache=tmp_path / "cache", roots=[])
    assert not [path for path in hub.requests if "/resolve/" in path]


def test_a_hub_that_fails(hub: Hub, tmp_path: Path) -> None:
    hub.failing = True
    with pytest.raises(Unavailable, match="answered 503") as caught:
        resolve(HubModel(source="hub", id="tiny/llama"), cache=tmp_path / "cache", roots=[])
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize(
    "page",
    [
        b"<html>Log in to the network</html>",
        b"",
        b"[]",
        b'{"id": "tiny/llama", "sha": 5}',
        b'{"id": "tiny/llama", "siblings": [{}]}',
        json.dumps(
            {"sha": COMMIT, "siblings": [{"rfilename": "model.safetensors", "blobId": "a", "size": "b"}]}
        ).encode(),
    ],
)
def test_what_is_no_answer_of_a_hub(page: bytes, hub: Hub, tmp_path: Path) -> None:
    """As a proxy gives it; told as that, and not as a defect of the stage."""
    hub.page = page
    with pytest.raises(Unavailable, match=r"at 127\.0\.0\.1") as caught:
        resolve(HubModel(source="hub", id="tiny/llama"), cache=tmp_path / "cache", roots=[])
    assert "try again later" in caught.value.detail or "did not say which commit" in caught.value.detail


def test_a_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(Unavailable, match=r"hub at 127\.0\.0\.1 cannot be reached") as caught:
        resolve(HubModel(source="hub", id="tiny/llama"), cache=tmp_path / "cache", roots=[])
    assert "\n" not in caught.value.detail


def test_a_damaged_download_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.files["model.safetensors"] = hub.files["model.safetensors"][:-8]
    with pytest.raises(BadCheckpoint, match="truncated"):
        resolve(HubModel(source="hub", id="tiny/llama"), cache=tmp_path / "cache", roots=[])


def test_a_local_folder_is_used_in_place(single: Path, tmp_path: Path) -> None:
    for path in ("single", str(single)):
        resolved = resolve(LocalModel(source="local", path=path), cache=tmp_path / "cache", roots=[single.parent])
        assert (resolved.path, resolved.id, resolved.origin) == (single, path, "checkpoint")
        assert resolved.revision is None
        assert resolved.fingerprint == fingerprint(Checkpoint.open(single))


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("../outside", "outside the model roots"),
        ("/etc", "outside the model roots"),
        ("link", "outside the model roots"),
        ("absent", "no such model"),
        ("a\0b", "cannot be used"),
        ("loop", "cannot be used|no such model"),
        ("notes.txt", "neither a checkpoint folder nor a .gguf file"),
    ],
)
def test_local_paths_that_are_refused(path: str, sentence: str, single: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    single.rename(tmp_path / "outside")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root / "loop")
    (root / "notes.txt").write_text("x")
    with pytest.raises(InvalidInput, match=sentence) as caught:
        resolve(LocalModel(source="local", path=path), cache=tmp_path / "cache", roots=[root])
    assert caught.value.errors[0].pointer == "path"


def test_no_roots_no_local_models(single: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="outside the model roots"):
        resolve(LocalModel(source="local", path=str(single)), cache=tmp_path, roots=[])


def test_pickled_files_are_refused(single: Path, tmp_path: Path) -> None:
    (single / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(BadCheckpoint, match="weights must be safetensors or GGUF"):
        resolve(LocalModel(source="local", path="single/pytorch_model.bin"), cache=tmp_path, roots=[tmp_path])


@pytest.mark.parametrize("name", ["tokenizer.json", "LICENSE", "model.safetensors"])
def test_files_that_leave_the_roots_by_a_symlink(name: str, single: Path, tmp_path: Path) -> None:
    """Side files are copied into artifacts, so a link to a secret must not pass as a licence."""
    root = tmp_path / "root"
    root.mkdir()
    single.rename(root / "model")
    secret = tmp_path / "secret"
    secret.write_text("{}")
    if name == "model.safetensors":
        (root / "model" / name).rename(secret)
    (root / "model" / name).symlink_to(secret)
    with pytest.raises(BadCheckpoint, match="symlink that leaves"):
        resolve(LocalModel(source="local", path="model"), cache=tmp_path / "cache", roots=[root])


def test_a_gguf_file_is_imported_once(
    make_model: Callable[..., PreTrainedModel], write_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    model = make_model("llama", **SIZES)
    write_gguf(tmp_path / "tiny.gguf", model, quantisation="Q8_0")
    source = LocalModel(source="local", path="tiny.gguf")

    def run(_: int) -> Path:
        resolved = resolve(source, cache=tmp_path / "cache", roots=[tmp_path])
        assert resolved.origin == "gguf"
        return resolved.path

    with ThreadPoolExecutor(2) as executor:  # both at once: one imports, the other waits and finds it
        paths = set(executor.map(run, range(2)))
    (path,) = paths
    made = (path / "model.safetensors").stat().st_mtime_ns
    assert run(0) == path
    assert (path / "model.safetensors").stat().st_mtime_ns == made
    assert sorted(entry.suffix for entry in path.parent.iterdir()) == ["", ".lock"]
    write_gguf(tmp_path / "tiny.gguf", make_model("llama", **SIZES, seed=1))
    assert run(0) != path


def test_a_broken_gguf_leaves_nothing(
    make_model: Callable[..., PreTrainedModel], write_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", make_model("llama", **SIZES))
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(BadCheckpoint, match="truncated"):
        resolve(LocalModel(source="local", path="tiny.gguf"), cache=tmp_path / "cache", roots=[tmp_path])
    assert [entry.suffix for entry in (tmp_path / "cache" / "gguf").iterdir()] == [".lock"]


def in_shards(hub: Hub, sharded: Path, rename: Callable[[str], str]) -> None:
    """Put the sharded model on the hub, its shards called otherwise."""
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    index["weight_map"] = {name: rename(file) for name, file in index["weight_map"].items()}
    hub.files = {
        rename(path.name) if path.suffix == ".safetensors" else path.name: path.read_bytes()
        for path in sharded.iterdir()
    }
    hub.files["model.safetensors.index.json"] = json.dumps(index).encode()
    hub.files["model-00099-of-00099.safetensors"] = b"of another variant, and listed nowhere"


@pytest.mark.parametrize(
    "rename",
    [
        str,
        lambda name: name.replace("model-", "model.safetensors-"),
        lambda name: name.replace("model-", "weights[part]"),
    ],
)
def test_shards_are_those_that_the_index_lists(
    rename: Callable[[str], str], hub: Hub, sharded: Path, tmp_path: Path
) -> None:
    in_shards(hub, sharded, rename)
    model = HubModel(source="hub", id="tiny/llama")
    resolved = resolve(model, cache=tmp_path / "cache", roots=[])
    assert resolved.fingerprint == fingerprint(Checkpoint.open(sharded))
    assert not (resolved.path / "model-00099-of-00099.safetensors").exists()
    hub.failing = True
    assert resolve(model.model_copy(update={"revision": COMMIT}), cache=tmp_path / "cache", roots=[]) == resolved


def test_a_fetch_that_broke_off_between_shards_is_taken_up_again(hub: Hub, sharded: Path, tmp_path: Path) -> None:
    in_shards(hub, sharded, str)
    model = HubModel(source="hub", id="tiny/llama", revision=COMMIT)
    first = resolve(model, cache=tmp_path / "cache", roots=[])
    Checkpoint.open(first.path).files()[-1].unlink()
    assert resolve(model, cache=tmp_path / "cache", roots=[]) == first


def test_an_index_that_lists_what_the_hub_does_not_have(hub: Hub, sharded: Path, tmp_path: Path) -> None:
    in_shards(hub, sharded, str)
    gone = sorted(name for name in hub.files if name.startswith("model-00001"))[0]
    del hub.files[gone]
    with pytest.raises(BadCheckpoint, match=f"lists the shard '{gone}', which is missing"):
        resolve(HubModel(source="hub", id="tiny/llama"), cache=tmp_path / "cache", roots=[])


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_git_lfs_pointer_is_called_that(name: str, single: Path, tmp_path: Path) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'5e' * 32}\nsize 300000\n"
    (single / name).write_text(pointer)
    with pytest.raises(BadCheckpoint, match=f"{name} is a Git LFS pointer") as caught:
        resolve(LocalModel(source="local", path="single"), cache=tmp_path / "cache", roots=[tmp_path])
    assert caught.value.errors[0].pointer == "model"
    assert "git lfs pull" in str(caught.value.errors[0].expected)


def test_a_gguf_file_that_is_a_pointer(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    with pytest.raises(BadCheckpoint, match="Git LFS pointer"):
        resolve(LocalModel(source="local", path="m.gguf"), cache=tmp_path / "cache", roots=[tmp_path])


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_a_named_pipe_is_told_and_not_waited_for(name: str, single: Path, tmp_path: Path) -> None:
    (single / name).unlink(missing_ok=True)
    os.mkfifo(single / name)
    with pytest.raises(BadCheckpoint, match=f"{name} is a named pipe"):
        resolve(LocalModel(source="local", path="single"), cache=tmp_path / "cache", roots=[tmp_path])


def test_a_named_pipe_in_place_of_a_gguf_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.gguf")
    with pytest.raises(BadCheckpoint, match=r"m\.gguf is a named pipe"):
        resolve(LocalModel(source="local", path="m.gguf"), cache=tmp_path / "cache", roots=[tmp_path])
