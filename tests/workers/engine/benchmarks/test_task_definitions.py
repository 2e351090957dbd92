"""Definitions that are plain data are read as they are; every other one is refused before the harness sees it."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from workers.engine.benchmarks import task_definitions
from workers.engine.benchmarks.task_definitions import parse, read_folder

PLAIN = r"""
task: choose_word
tag: ours
dataset_path: json
dataset_kwargs:
  data_files: {validation: items.jsonl}
output_type: multiple_choice
validation_split: validation
doc_to_text: "The {{noun}} is"
doc_to_target: label
doc_to_choice: "{{choices}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata: {version: 2.0, made: {by: us}}
"""
GENERATED = r"""
task: say_word
dataset_path: json
dataset_kwargs:
  data_files: {test: [items.jsonl], train: more/items.jsonl}
test_split: test
fewshot_split: train
num_fewshot: 2
doc_to_text: "The {{noun}} is"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\n", "."], do_sample: false, max_gen_toks: 32}
metric_list:
  - {metric: exact_match, ignore_case: true, regexes_to_ignore: [",", "\\$"]}
filter_list:
  - name: strict-match
    filter: [{function: regex, regex_pattern: "#### (\\-?[0-9\\.\\,]+)"}, {function: take_first}]
  - name: flexible-extract
    filter: [{function: regex, group_select: -1, regex_pattern: "(-?[$0-9.,]{2,})"}, {function: take_first}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "tasks"
    (path / "more").mkdir(parents=True)
    (tmp_path / "secret.jsonl").write_text('{"noun": "secret"}\n')
    for file in (path / "items.jsonl", path / "more" / "items.jsonl"):
        file.write_text('{"noun": "sky"}\n')
    (path / "choose.yaml").write_text(PLAIN)
    return path


def read(folder: Path) -> dict[str, dict[str, Any]]:
    return read_folder("tasks", [folder.parent])


def refused(folder: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        read(folder)
    (error,) = caught.value.errors
    assert error.pointer == "folder"
    assert error.value
    assert error.expected
    return caught.value.detail


def test_plain_definitions_reach_the_harness_as_they_are(folder: Path) -> None:
    (folder / "say.yml").write_text(GENERATED)
    found = read(folder)
    assert found["choose_word"] == {
        "task": "choose_word",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"validation": str(folder / "items.jsonl")}},
        "output_type": "multiple_choice",
        "validation_split": "validation",
        "doc_to_text": "The {{noun}} is",
        "doc_to_target": "label",
        "doc_to_choice": "{{choices}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 2.0},
    }
    said = found["say_word"]
    assert said["dataset_kwargs"]["data_files"] == {
        "test": [str(folder / "items.jsonl")],
        "train": str(folder / "more" / "items.jsonl"),
    }
    assert said["generation_kwargs"] == {"until": ["\n", "."], "do_sample": False, "max_gen_toks": 32}
    assert said["filter_list"][1]["filter"] == [
        {"function": "regex", "group_select": -1, "regex_pattern": "(-?[$0-9.,]{2,})"},
        {"function": "take_first"},
    ]


# what is put in, in place of the first → what is said of it
REACHING_OUT: list[tuple[str, str, str]] = [
    # code by a tag or by a field
    ("doc_to_text:", "process_docs: !function evil.run\ndoc_to_text:", "may not call code"),
    ('"The {{noun}} is"', "!function evil.run", "may not call code"),
    ("metric: acc", "metric: !function evil.run", "may not call code"),
    ("tag: ours", "tag: !!python/object/apply:os.system [touch x]", "may not call code"),
    ("tag: ours", "tag: !!python/name:os.system", "may not call code"),
    ("tag: ours", "class: evil.Task", "`class`"),
    ("tag: ours", "process_docs: run", "`process_docs`"),
    ("tag: ours", "process_results: run", "`process_results`"),
    ("tag: ours", "custom_dataset: run", "`custom_dataset`"),
    ("tag: ours", "unsafe_code: true", "`unsafe_code`"),
    ("tag: ours", "use_prompt: promptsource:x", "`use_prompt`"),
    ("tag: ours", "include: /etc/passwd", "`include`"),
    ("tag: ours", "group: all", "`group`"),
    ("tag: ours", "doc_to_image: x", "`doc_to_image`"),
    ("tag: ours", "download: x", "`download`"),
    ("task: choose_word", "task: [one, two]", "has no `task`"),
    ("task: choose_word", "group: x", "has no `task`"),
    ("task: choose_word", "task: ../../x", "`task`"),
    # metrics and filters
    ("metric: acc", "metric: /abs/evil.py", "`metric_list.0.metric`"),
    ("metric: acc", "metric: acc\n    hf_evaluate: true", "`metric_list.0.hf_evaluate`"),
    ("metric: acc", "metric: rouge", "`metric_list.0.metric`"),
    ("aggregation: mean", "aggregation: evil", "`metric_list.0.aggregation`"),
    ("higher_is_better: true", "higher_is_better: false", "`metric_list.0.higher_is_better`"),
    ("metric: acc", "metric: acc\n    kwargs: {a: 1}", "`metric_list.0.kwargs`"),
    ("tag: ours", "filter_list: [{name: a, filter: [{function: custom, filter_fn: x}]}]", "`filter_list.0.filter"),
    # where data lie
    ("items.jsonl", "../../secret.jsonl", "not in its folder"),
    ("tag: ours", f"repeats: {'1' * 5000}", "line 3 has a number of more than the 4,300 digits that are read"),
    ("items.jsonl", "more/../../../secret.jsonl", "not in its folder"),
    ("items.jsonl", "/etc/hostname", "not in its folder"),
    ("items.jsonl", "absent.jsonl", "not in its folder"),
    ("items.jsonl", "more", "not in its folder"),
    ("items.jsonl", "link.jsonl", "not in its folder"),
    ("items.jsonl", "https://evil.example/x.jsonl", "that matches"),
    ("items.jsonl", "hf://datasets/a/b/x.jsonl", "data_files"),
    ("items.jsonl", '"zip://x::items.zip"', "data_files"),
    ("items.jsonl", '"*.jsonl"', "data_files"),
    ("items.jsonl", "packed.jsonl", "compressed or packed"),
    ("{validation: items.jsonl}", "{../x: items.jsonl}", "data_files"),
    ("  data_files: {validation: items.jsonl}", "  field: rows", "names no `data_files`"),
    ("  data_files:", "  trust_remote_code: true\n  data_files:", "`dataset_kwargs.trust_remote_code`"),
    ("  data_files:", "  data_dir: /etc\n  data_files:", "`dataset_kwargs.data_dir`"),
    ("  data_files:", "  cache_dir: /tmp/x\n  data_files:", "`dataset_kwargs.cache_dir`"),
    ("dataset_path: json", "dataset_path: /etc", "`dataset_path`"),
    ("dataset_path: json", "dataset_path: ../../tasks", "`dataset_path`"),
    ("dataset_path: json", "dataset_path: ./loader.py", "`dataset_path`"),
    ("dataset_path: json", "dataset_path: pandas", "owner/name"),
    ("dataset_path: json", "dataset_path: sql", "owner/name"),
    ("dataset_path: json", "dataset_path: webdataset", "owner/name"),
    ("dataset_path: json", "dataset_path: owner/name", "`data_files`"),
    ("dataset_path: json", "dataset_path: json\ndataset_name: ../../x", "`dataset_name`"),
    # what reaches `generate`
    ("multiple_choice", "generate_until\ngeneration_kwargs: {custom_generate: a/b}", "custom_generate"),
    ("multiple_choice", "generate_until\ngeneration_kwargs: {trust_remote_code: true}", "trust_remote_code"),
    ("multiple_choice", "generate_until\ngeneration_kwargs: {max_gen_toks: 100000000}", "max_gen_toks"),
    ("multiple_choice", "loglikelihood_rolling", "`output_type`"),
    # YAML that unfolds
    ("made: {by: us}", "made: " + "[" * 5_000, "nested more than"),
    ("made: {by: us}", "made: " + "{a: " * 60 + "1" + "}" * 60, "nested more than"),
    ("made: {by: us}", "made: &a [x, x], more: [*a, *a]", "by an alias"),
    ("made: {by: us}", "made: &a {b: *a}", "by an alias"),
    ("made: {by: us}", "made: &a {b: 1}, more: {<<: *a}", "by an alias"),
    ("tag: ours", "tag: ours\ntag: theirs", "twice"),
    ("made: {by: us}", "made: " + "9" * 10_000, "no plain YAML"),
    ("made: {by: us}", "made: 2026-99-99", "no plain YAML"),
    ("made: {by: us}", "{[a]: b}", "no plain YAML"),
    ("tag: ours", "\x00", "no plain YAML"),
    # what the harness could not run
    ("doc_to_target: label", "num_fewshot: 3", "`doc_to_target`"),
    ('doc_to_choice: "{{choices}}"', "num_fewshot: 3", "`doc_to_choice`"),
    ("validation_split: validation", "num_fewshot: 3", "`validation_split`"),
    ("metric: acc", "metric: exact_match\n    regexes_to_ignore: ['(']", "regular expression"),
    ("doc_to_target: label", "doc_to_target: {a: b}", "`doc_to_target"),
]


@pytest.mark.parametrize(("old", "new", "says"), REACHING_OUT, ids=[new[:60] for _, new, _ in REACHING_OUT])
def test_what_is_not_plain_data_is_refused(folder: Path, old: str, new: str, says: str) -> None:
    (folder / "link.jsonl").symlink_to(folder.parent.parent / "secret.jsonl")
    (folder / "packed.jsonl").write_bytes(gzip.compress(b'{"noun": "sky"}\n'))
    assert old in PLAIN
    (folder / "choose.yaml").write_text(PLAIN.replace(old, new, 1))
    assert says in refused(folder)


def test_a_hub_data_set_is_named_with_its_owner_and_is_no_folder_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = PLAIN.replace("dataset_path: json", "dataset_path: owner/name").replace(
        "  data_files: {validation: items.jsonl}", "  revision: abc123"
    )
    (folder / "choose.yaml").write_text(hub)
    assert read(folder)["choose_word"]["dataset_kwargs"] == {"revision": "abc123"}
    (folder / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(folder)  # `datasets` looks for a folder of that name before it asks the hub
    assert "which is a folder here" in refused(folder)


def test_files_that_are_no_definitions_of_the_folder_are_refused(folder: Path) -> None:
    (folder / "two.yaml").write_text(PLAIN)
    assert "which another file of the folder defines" in refused(folder)
    (folder / "two.yaml").unlink()
    (folder / "two.yaml").symlink_to(folder.parent.parent / "secret.jsonl")
    assert "is not a file of its folder" in refused(folder)
    (folder / "two.yaml").unlink()
    os.mkfifo(folder / "two.yaml")
    assert "is not a file of its folder" in refused(folder)
    (folder / "two.yaml").unlink()
    (folder / "two.yaml").write_bytes(b"\xff\xfe\x00task")
    assert "no plain YAML" in refused(folder)
    (folder / "two.yaml").write_text("# " + "x" * task_definitions.MOST_BYTES)
    assert "262 kB" in refused(folder)
    (folder / "two.yaml").unlink()
    for number in range(task_definitions.MOST_FILES):
        (folder / f"{number}.yaml").touch()
    assert "at most" in refused(folder)


@pytest.mark.parametrize("name", ["absent", "..", "/etc", "x" * 5000, "a\x00b", "out"])
def test_a_folder_outside_the_roots_is_not_found(folder: Path, name: str) -> None:
    (folder.parent / "out").symlink_to(folder.parent.parent)
    with pytest.raises(InvalidInput, match="no folder"):
        read_folder(name, [folder.parent])


def test_a_definition_may_have_many_keys() -> None:
    many = PLAIN.replace("made: {by: us}", "made: {" + ", ".join(f"k{n}: 1" for n in range(10_000)) + "}")
    assert parse(many.encode(), name="x").task == "choose_word"
