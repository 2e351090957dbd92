"""When two stages are the same, and when that cannot be known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from secateur.contract import results
from secateur.contract.catalog import CRITERIA
from secateur.contract.named_texts import NAMED_TEXTS
from secateur.contract.protocol import Runtime, StageSpec, WorkingDevice
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import CORRECT
from workers.engine import scoring as criteria
from workers.supervision import result_keys
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
    target: str | None = None,
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
    known = {"model": fingerprint, "target_model": target}
    fingerprints = {name: found for name, found in known.items() if found is not None}
    return dedupe_key(spec, device=device, fingerprints=fingerprints, inputs=inputs or {})


def test_another_job_with_the_same_question_has_the_same_key(root: Path) -> None:
    assert key(root) is not None
    assert key(root) == key(root, labels={"commit": "x"}, gates={"min_speedup": 1.1}, recovery={"kind": "none"})
    assert key(root) == key(root, quantise=[{"kind": "int8"}])
    assert key(root, "quantise") != key(root, "quantise", quantise=[{"kind": "int8"}])


def test_a_plan_is_shared_on_its_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plan() -> str | None:
        return key(root, "plan", pruning={"kind": "depth", "target": {"speedup": 1.3}})

    here, scored = plan(), key(root)
    assert here == plan() is not None
    monkeypatch.setattr("platform.node", lambda: "another")
    assert plan() != here
    assert key(root) == scored, "what is not timed is the same on all machines"


def test_a_corrected_number_of_blocks_parts_what_follows(root: Path) -> None:
    def corrected(**changes: Any) -> str | None:
        return key(root, "correct", **{"pruning": {"kind": "depth", "target": {"speedup": 1.3}}, **changes})

    assert corrected() is not None
    assert corrected() != corrected(recovery={"kind": "none"}), "the stages that it adds are others"
    assert CORRECT.hands_on == ("removed",)
    assert CORRECT.decides is not None, "else its number would not be in the keys of the stages that follow"


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


NEWS = {"source": "local", "path": "news.txt"}


@pytest.mark.parametrize(
    "text",
    [
        NEWS,
        {"source": "answers", "prompts": NEWS},
        {"source": "blend", "parts": [{"text": {"source": "answers"}}, {"text": NEWS}]},
    ],
    ids=lambda text: str(text["source"]),
)
def test_a_changed_text_is_another_text(root: Path, text: dict[str, Any]) -> None:
    scoring = {"criterion": "perplexity", "calibration": {"text": text}}
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


def test_measurements_that_may_be_shared_belong_to_their_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(**more: Any) -> str | None:
        return key(root, "benchmark", fingerprint="f", benchmark={"reuse_measurements": True, **more})

    here = measured()
    assert here is not None
    assert here == measured()
    assert here != measured(latency={"runs": 5})
    monkeypatch.setattr("platform.node", lambda: "another")
    assert here != measured()


def test_measurements_have_no_key(root: Path) -> None:
    assert key(root, "benchmark", fingerprint="f") is None
    assert key(root, "report", fingerprint="f") is None
    assert key(root, "recover", fingerprint="f") is not None


def test_other_code_has_other_keys(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(root)
    monkeypatch.setattr(result_keys, "engine_version", lambda: "another")
    assert key(root) != before


def test_the_engines_version_covers_its_code() -> None:
    places = [result_keys.code_of(name) for name in result_keys._CODE]
    assert all(place.exists() for place in places)
    assert Path(criteria.__file__).is_relative_to(places[0])
    assert Path(results.__file__).is_relative_to(places[3])
    assert result_keys.engine_version() == result_keys.engine_version()


def test_the_order_in_which_inputs_are_told_is_none_of_the_keys(root: Path) -> None:
    files = {"score": [("a", "0"), ("b", "1")], "check": [("c", "2")]}
    turned = {"check": [("c", "2")], "score": [("b", "1"), ("a", "0")]}
    assert key(root, "prune", inputs=files) == key(root, "prune", inputs=turned)


def test_a_text_within_a_list_is_in_the_key(root: Path) -> None:
    calibration = {"text": {"source": "local", "path": "news.txt"}}
    quantise = [{"kind": "int8"}, {"kind": "gptq", "calibration": calibration}]
    before = key(root, "quantise", quantise=quantise)
    (root / "news.txt").write_text("other text")
    assert key(root, "quantise", quantise=quantise) not in {None, before}


def test_a_named_text_has_a_key_as_long_as_its_commit_is_known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, text = next((name, text) for name, text in NAMED_TEXTS.items() if text.revision)
    scoring = {"criterion": "perplexity", "calibration": {"text": {"source": "named", "name": name}}}
    before = key(root, scoring=scoring)
    assert before not in {None, key(root)}
    monkeypatch.setitem(cast(dict[str, Any], NAMED_TEXTS), name, replace(text, revision="f" * 40))
    assert key(root, scoring=scoring) not in {None, before}
    monkeypatch.setitem(cast(dict[str, Any], NAMED_TEXTS), name, replace(text, revision=""))
    assert key(root, scoring=scoring) is None


def test_a_folder_of_too_many_files_is_not_looked_through(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "m" / "inside").mkdir()
    (root / "m" / "inside" / "weights").touch()
    assert result_keys._MOST_FILES > 1000
    monkeypatch.setattr(result_keys, "_MOST_FILES", 2)
    assert key(root) is not None
    (root / "m" / "one more").touch()
    assert key(root) is None


def test_a_root_that_has_the_path_is_found_behind_others(root: Path) -> None:
    assert result_keys._on_disk("m", [root / "none", root]) == result_keys._on_disk("m", [root])
    assert result_keys._on_disk("m", [root / "none"]) is None
    assert result_keys._on_disk("news.txt", [root]) != result_keys._on_disk("m/config.json", [root])


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package and a module that the engine's version is taken of, in place of the real ones."""
    package, module = tmp_path / "package", tmp_path / "module.py"
    (package / "inside").mkdir(parents=True)
    (package / "inside" / "file.py").write_text("1")
    module.write_text("1")
    monkeypatch.setattr(result_keys, "_CODE", ("package", "module"))
    monkeypatch.setattr(result_keys, "code_of", lambda name: package if name == "package" else module)
    monkeypatch.setattr(result_keys, "versions", lambda: {"torch": "1", "secateur": "2"})
    result_keys.engine_version.cache_clear()
    yield tmp_path
    result_keys.engine_version.cache_clear()


def version() -> str:
    result_keys.engine_version.cache_clear()
    return result_keys.engine_version()


def test_the_engines_version_is_of_names_and_content_and_libraries(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = version()
    (code / "package" / "notes.txt").touch()
    monkeypatch.setattr(result_keys, "versions", lambda: {"secateur": "2", "torch": "1"})
    assert version() == before
    file = code / "package" / "inside" / "file.py"
    file.write_text("2")
    assert version() != before
    file.write_text("1")
    assert version() == before
    file.rename(file.with_name("other.py"))
    assert version() != before
    file.with_name("other.py").rename(file)
    (code / "module.py").write_text("2")
    assert version() != before
    (code / "module.py").write_text("1")
    monkeypatch.setattr(result_keys, "versions", lambda: {"torch": "1.1", "secateur": "2"})
    assert version() != before


def test_the_code_is_read_once(code: Path) -> None:
    before = result_keys.engine_version()
    (code / "module.py").write_text("2")
    assert result_keys.engine_version() == before


def test_a_module_that_is_not_there_has_no_code() -> None:
    with pytest.raises(ModuleNotFoundError, match="workers_of_nobody"):
        result_keys.code_of("workers_of_nobody")


def test_what_works_with_the_target_of_a_draft_has_it_in_its_key(root: Path) -> None:
    (root / "large").mkdir()
    (root / "large" / "config.json").write_text("{}")

    def of(stage: str, **more: Any) -> str | None:
        target = {"source": "local", "path": "large"}
        body = {"use": "draft", "target_model": target, "benchmark": {"reuse_measurements": True}, **more}
        return key(root, stage, **body)

    here = of("benchmark")
    assert here is not None
    assert here != key(root, "benchmark", benchmark={"reuse_measurements": True, "draft": None})
    assert here == of("benchmark")
    assert of("benchmark", target="f") not in {None, here}
    assert of("benchmark", target="f") != of("benchmark", target="g"), "the check has seen another"
    assert of("benchmark", target_model={"source": "hub", "id": "org/large"}) is None, "a branch may move on"
    assert of("benchmark", target_model={"source": "hub", "id": "org/large"}, target="f") is not None
    (root / "large" / "config.json").write_text('{"changed": 1}')
    assert of("benchmark") != here
    assert of("score") == key(root), "scores are of the draft alone"
