"""Text sets by name, from a small hub on this machine: the right files, joined as papers do, and fetched once."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
import torch
from pyarrow import parquet
from transformers import AutoConfig, AutoTokenizer

from secateur.contract.errors import StageFailed, Unavailable
from secateur.contract.named_texts import NAMED_TEXTS, split_of
from secateur.contract.options.texts import HubText, NamedText
from tests.fixtures.hub_server import serving
from workers.engine.runtime import Machine
from workers.engine.text.calibration import token_batch
from workers.engine.text.named_texts import NamedSource
from workers.engine.text.text_source import TextSource
from workers.stages.benchmark_notes import overlap

LATEST = "d" * 40  # of the default branch


@dataclass
class DataHub:
    """A hub with data sets, as far as its client asks."""

    files: dict[str, bytes] = field(default_factory=dict)  # by "id/path"
    requests: list[str] = field(default_factory=list)
    status: int | None = None  # answered to everything

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(path)
        if self.status is not None:
            return self.status, {}, b"no"
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "datasets"]:
            body = {"id": "/".join(parts[2:4]), "sha": LATEST, "siblings": []}
            return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()
        commit, name = parts[4], "/".join([*parts[1:3], *parts[5:]])
        if name not in self.files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        body_bytes = self.files[name]
        etag = hashlib.sha256(body_bytes).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, body_bytes


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DataHub]:
    state = DataHub()

    for named in NAMED_TEXTS.values():
        for split, file in named.files.items():
            rows = [{named.column: f"{named.title} {split} {number}", "other": number} for number in range(1200)]
            if file.endswith(".parquet"):
                parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "table", row_group_size=100)
                content = (tmp_path / "table").read_bytes()
            else:
                content = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
            state.files[f"{named.id}/{file}"] = content
    with serving(lambda path, _: state.answer(path)) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield state


def named(name: Any, split: Any = None) -> NamedText:
    return NamedText(source="named", name=name, split=split)


@pytest.mark.parametrize(("name", "measured"), [("wikitext2", "test"), ("ptb", "validation"), ("c4", "validation")])
def test_what_is_measured_is_what_papers_measure_and_what_is_trained_on_is_apart(name: Any, measured: str) -> None:
    assert split_of(name, None, measuring=True) == measured
    assert split_of(name, None, measuring=False) == "train"
    assert split_of(name, "validation", measuring=True) == "validation"
    assert not overlap(named(name), named(name))
    assert overlap(named(name, measured), named(name))


def test_the_same_text_by_its_place_on_the_hub_is_known() -> None:
    by_place = HubText(source="hub", id="Salesforce/wikitext", config="wikitext-2-raw-v1", split="test")
    assert overlap(by_place, named("wikitext2"))
    assert not overlap(by_place.model_copy(update={"split": "train"}), named("wikitext2"))
    assert not overlap(by_place, named("ptb"))


@pytest.mark.parametrize(("name", "split", "count", "commit"), [
    ("wikitext2", "test", 1200, NAMED_TEXTS["wikitext2"].revision),
    ("ptb", "validation", 1200, LATEST),
    ("c4", "validation", 1100, NAMED_TEXTS["c4"].revision),
])  # fmt: skip
def test_its_documents(hub: DataHub, tmp_path: Path, name: Any, split: str, count: int, commit: str) -> None:
    source = NamedSource(named(name), measuring=True, cache=tmp_path / "cache")
    title = source.set.title
    assert list(source.documents()) == [f"{title} {split} {number}" for number in range(count)]
    assert source.commit == commit
    assert source.description == f"{title} {split} ({source.set.id} at {commit[:12]})"
    assert list(NamedSource(named(name), measuring=False, cache=tmp_path / "cache").documents())[-1].endswith("1199")


def test_a_pinned_set_is_fetched_once(hub: DataHub, tmp_path: Path) -> None:
    NamedSource(named("c4"), measuring=True, cache=tmp_path / "cache")
    assert hub.requests
    hub.requests.clear()
    hub.status = 503
    source = NamedSource(named("c4"), measuring=True, cache=tmp_path / "cache")
    assert next(source.documents()) == "C4 validation 0"
    assert hub.requests == []


def test_a_hub_that_is_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own tries
    for name in NAMED_TEXTS:
        with pytest.raises(Unavailable, match=r"hub at 127\.0\.0\.1 cannot be reached") as caught:
            NamedSource(named(name), measuring=True, cache=tmp_path)
        assert 'upload the text and name it by "source": "upload"' in caught.value.detail
        assert "\n" not in caught.value.detail


@pytest.mark.parametrize(("status", "names"), [(401, NAMED_TEXTS), (404, NAMED_TEXTS), (503, ("ptb",))])
def test_a_hub_that_does_not_have_it(hub: DataHub, tmp_path: Path, status: int, names: Any) -> None:
    hub.status = status
    for name in names:
        with pytest.raises(Unavailable, match=NAMED_TEXTS[name].title) as caught:
            NamedSource(named(name), measuring=True, cache=tmp_path)
        assert "\n" not in caught.value.detail


def test_a_file_of_another_form(hub: DataHub, tmp_path: Path) -> None:
    hub.files["Salesforce/wikitext/wikitext-2-raw-v1/test-00000-of-00001.parquet"] = b"nonsense" * 10
    hub.files["allenai/c4/en/c4-validation.00000-of-00008.json.gz"] = gzip.compress(b'{"words": "a"}\n')
    for name in ("wikitext2", "c4"):
        source = NamedSource(named(name), measuring=True, cache=tmp_path)
        with pytest.raises(StageFailed, match="cannot be read from"):
            list(source.documents())


@pytest.mark.parametrize(("name", "between"), [("wikitext2", "\n\n"), ("c4", " ")])
def test_tokens_are_those_of_the_joined_documents(
    hub: DataHub, tiny_checkpoint: Callable[..., Path], tmp_path: Path, name: Any, between: str
) -> None:
    checkpoint = tiny_checkpoint(num_hidden_layers=1)
    source = TextSource(
        checkpoint=checkpoint,
        config=AutoConfig.from_pretrained(checkpoint),
        fingerprint="f" * 64,
        load=lambda: pytest.fail("no model is needed"),
        machine=Machine(device=torch.device("cpu"), dtype=torch.float32, threads=1, seed=0),
        data_roots=[],
        cache=tmp_path / "cache",
        seed=0,
    )
    ids, info = token_batch(source, named(name), purpose="measuring", samples=40, tokens=128)
    documents = list(NamedSource(named(name), measuring=True, cache=source.cache).documents())
    plain = AutoTokenizer.from_pretrained(checkpoint)(between.join(documents), verbose=False)["input_ids"]
    assert torch.equal(ids, torch.tensor(plain[: 40 * 128]).view(40, 128))
    assert (info.source, info.identity) == ("named", NAMED_TEXTS[name].id)
