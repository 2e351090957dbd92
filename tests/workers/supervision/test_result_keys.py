"""When two stages are the same, and when that cannot be known."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from secateur.contract import results
from secateur.contract.catalog import CRITERIA
from secateur.contract.protocol import Runtime, StageSpec, WorkingDevice
from secateur.contract.spec import CompressionSpec
from workers.engine import scoring as criteria
from workers.supervision import result_keys as dedupe
from workers.supervision.result_keys import dedupe_key


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    (tmp_path / "news.txt").write_text("text")
    return tmp_path


def key(
    root: Path,
    stage: str = "score",
    *,
    kind: str = "cpu",
    setting: str = "cpu",
    used: str = "float32",
    fingerprint: str | None = None,
    inputs: dict[str, list[tuple[str, str]]] | None = None,
    **more: Any,
) -> str | None:
    body = {"model": {"source": "local", "path": "m"}, "pruning": {"kind": "depth", "blocks": 1}}
    spec = StageSpec(
        job_id=uuid4(),
        key=stage,
        kind=stage,
        created_at=datetime.now(UTC),
        spec=CompressionSpec.model_validate({**body, **more}),
        work=root / str(uuid4()),
        runtime=Runtime(device=setting, cache=root, model_roots=(root,), data_roots=(root,)),
    )
    device = WorkingDevice(setting=setting, kind=kind, dtype=used)
    return dedupe_key(spec, device=device, fingerprint=fingerprint, inputs=inputs or {})


def test_another_job_with_the_same_question_has_the_same_key(root: Path) -> None:
    assert key(root) is not None
    assert key(root) == key(root, labels={"commit": "x"}, gates={"min_speedup": 1.1}, recovery={"kind": "none"})
    assert key(root) == key(root, quantise=[{"kind": "int8"}])
    assert key(root, "quantise") != key(root, "quantise", quantise=[{"kind": "int8"}])


@pytest.mark.parametrize(
    "more",
    [
        {"seed": 1},
        {"kind": "NVIDIA H200 9.0"},
        {"used": "bfloat16"},
        {"dtype": "float16"},
        {"scoring": {"criterion": "magnitude"}},
        {"stage": "prune"},
        {"inputs": {"score": [("scores.json", "0")]}},
        {"fingerprint": "f"},
    ],
    ids=str,
)
def test_whatever_decides_the_result_is_in_the_key(root: Path, more: dict[str, Any]) -> None:
    assert key(root, **more) not in {None, key(root)}


ONE_SHOT = ("perplexity", "taylor", "magnitude", "block_influence", "cosine", "random")


@pytest.mark.parametrize("criterion", CRITERIA)
def test_how_much_goes_is_in_the_key_of_scores_only_where_a_set_is_searched_for(root: Path, criterion: str) -> None:
    def keys(**more: Any) -> set[str | None]:
        asked = ({"blocks": 2}, {"blocks": 3}, {"ratio": 0.2}, {"ratio": 0.3})
        scorings = ({"criterion": criterion, **more}, {"criterion": criterion, "plus": False, **more})
        return {key(root, scoring=scoring, pruning={"kind": "depth", **much}) for scoring in scorings for much in asked}

    assert len(keys() - {None}) == (1 if criterion in ONE_SHOT else 8)
    if criterion == "perplexity":
        assert len(keys(racing=True) - {None}) == 8


@pytest.mark.parametrize(
    "more",
    [
        {"pruning": {"kind": "depth", "blocks": 2}},
        {"scoring": {"criterion": "perplexity", "plus": False}},
        {"quantise": [{"kind": "int8"}]},
    ],
    ids=str,
)
def test_how_much_goes_is_in_the_key_of_pruning(root: Path, more: dict[str, Any]) -> None:
    assert key(root, "prune", **more) not in {None, key(root, "prune")}


def test_what_was_used_is_in_the_key_and_not_how_it_was_asked_for(root: Path) -> None:
    first = key(root, setting="cuda:0", kind="NVIDIA H200 9.0", used="bfloat16")
    assert first not in {None, key(root)}
    assert first == key(root, setting="cuda:1", kind="NVIDIA H200 9.0", used="bfloat16")
    assert first == key(root, setting="cuda:0", kind="NVIDIA H200 9.0", used="bfloat16", dtype="bfloat16")
    assert first != key(root, setting="cuda:0", kind="NVIDIA H100 9.0", used="bfloat16")


def test_a_changed_file_is_another_model(root: Path) -> None:
    before = key(root)
    (root / "m" / "config.json").write_text("{ }")
    assert key(root) not in {None, before}


def test_a_changed_text_is_another_text(root: Path) -> None:
    scoring = {"criterion": "perplexity", "calibration": {"text": {"source": "local", "path": "news.txt"}}}
    before = key(root, scoring=scoring)
    assert before not in {None, key(root)}
    (root / "news.txt").write_text("other text")
    assert key(root, scoring=scoring) not in {None, before}


def test_no_key_where_the_content_could_change_behind_it(root: Path) -> None:
    assert key(root, model={"source": "local", "path": "missing"}) is None
    assert key(root, model={"source": "hub", "id": "org/m"}) is None
    assert key(root, model={"source": "hub", "id": "org/m", "revision": "main"}) is None
    assert key(root, model={"source": "hub", "id": "org/m", "revision": "a" * 40}) is not None
    assert key(root, model={"source": "hub", "id": "org/m"}, fingerprint="known by now") is not None
    hub_text = {"criterion": "perplexity", "calibration": {"text": {"source": "hub", "id": "org/text"}}}
    assert key(root, scoring=hub_text) is None


def test_measurements_have_no_key(root: Path) -> None:
    assert key(root, "benchmark", fingerprint="f") is None
    assert key(root, "report", fingerprint="f") is None
    assert key(root, "recover", fingerprint="f") is not None


def test_other_code_has_other_keys(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(root)
    monkeypatch.setattr(dedupe, "engine_version", lambda: "another")
    assert key(root) != before


def test_the_engines_version_covers_its_code() -> None:
    places = [dedupe.code_of(name) for name in dedupe._CODE]
    assert all(place.exists() for place in places)
    assert Path(criteria.__file__).is_relative_to(places[0])
    assert Path(results.__file__).is_relative_to(places[3])
    assert dedupe.engine_version() == dedupe.engine_version()
