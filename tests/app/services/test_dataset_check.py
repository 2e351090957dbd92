"""Files that are small on disk and large in memory: refused in a process that cannot take more."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from app.services import dataset_check
from app.services.dataset_check import check_file
from app.services.dataset_files import Looked
from secateur.contract.datasets import DatasetFormat, DatasetKind
from secateur.contract.errors import InvalidInput, PayloadTooLarge

JSONL, PARQUET = DatasetFormat.JSONL, DatasetFormat.PARQUET
LIMIT = 1 << 30
MB = 1 << 20


def repeated(text: str, times: int) -> Any:
    """A column that holds one text so many times, in a few bytes."""
    return arrow.DictionaryArray.from_arrays(arrow.array([0] * times, arrow.int32()), arrow.array([text]))


def written(tmp_path: Path, *, dense: bool = False, **columns: Any) -> Path:
    path = tmp_path / "table.parquet"
    table = arrow.table(columns)
    parquet.write_table(table, path, compression="zstd", store_schema=not dense)
    return path


@pytest.mark.thorough
@pytest.mark.parametrize("dense", [False, True])  # as Arrow's own dictionaries, and as plain strings
@pytest.mark.parametrize(("length", "times"), [(MB, 1280), (12 * MB, 107)])
def test_a_text_that_a_dictionary_repeats_counts_each_time(
    tmp_path: Path, dense: bool, length: int, times: int
) -> None:
    path = written(tmp_path, dense=dense, text=repeated("a" * length, times))
    assert path.stat().st_size < 10_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PayloadTooLarge):
        check_file(path, PARQUET, most_bytes=LIMIT)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes, of this process
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1_600_000


def test_one_row_that_unfolds_to_much(tmp_path: Path) -> None:
    path = written(tmp_path, messages=arrow.array([[{"role": "user", "content": "a"}] * 700_000]))
    assert path.stat().st_size < 10_000
    with pytest.raises(InvalidInput, match="row 1 is longer than") as caught:
        check_file(path, PARQUET, most_bytes=LIMIT)
    assert (caught.value.errors[0].pointer, caught.value.errors[0].line) == ("/file", 1)


def test_what_a_file_says_of_its_own_size_is_believed_where_it_is_too_much(tmp_path: Path) -> None:
    path = written(tmp_path, text=[f"{number} " + "a" * 100_000 for number in range(30)])
    with pytest.raises(PayloadTooLarge, match="SECATEUR_MAX_DATASET_BYTES"):
        check_file(path, PARQUET, most_bytes=100_000)


def test_columns_that_are_not_read_are_for_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, text=["a", "b"], more=repeated("x" * MB, 2))
    assert check_file(path, PARQUET, most_bytes=1000) == Looked(DatasetKind.TEXT, 2)


@pytest.mark.thorough
@pytest.mark.parametrize(("column", "says"), [
    (arrow.array([[["a"]]]), "row 1 has no string as `text`"),
    (arrow.array([[("a", 1)]], arrow.map_(arrow.string(), arrow.int64())), "the column `text` holds map"),
    (arrow.array([{"a": "b"}]), "row 1 has no string as `text`"),
    (arrow.array([b"\xff"], arrow.binary()), "row 1 has no string as `text`"),
    (arrow.array([None], arrow.null()), "row 1 has no string as `text`"),
])  # fmt: skip
def test_columns_of_other_types(tmp_path: Path, column: Any, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_file(written(tmp_path, text=column), PARQUET, most_bytes=LIMIT)
    assert says in caught.value.detail


def test_json_that_takes_more_memory_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_check, "MEMORY_BYTES", 200 * MB)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "more": [' + ",".join(["[]"] * 4_000_000) + "]}\n")
    with pytest.raises(PayloadTooLarge, match="takes more than 209,715,200 bytes of memory"):
        check_file(path, JSONL, most_bytes=LIMIT)


def test_a_file_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_check, "CPU_SECONDS", 1.0)
    path = written(tmp_path, instruction=["a"] * 1_000_000, output=["b"] * 1_000_000)
    with pytest.raises(InvalidInput, match="took too long") as caught:
        check_file(path, PARQUET, most_bytes=LIMIT)
    assert caught.value.errors[0].pointer == "/file"


def test_errors_come_through_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"text": 7}\n')
    with pytest.raises(InvalidInput) as caught:
        check_file(path, JSONL, most_bytes=LIMIT)
    field = caught.value.errors[0]
    assert (field.pointer, field.value, field.line) == ("/file/text", 7, 2)
    path.write_text(json.dumps([{"text": "a"}, {"text": "b"}]))
    assert check_file(path, JSONL, most_bytes=LIMIT) == Looked(DatasetKind.TEXT, 2)


def test_nothing_of_the_current_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n')
    (tmp_path / "app").mkdir()
    for name in ("app/__init__.py", "json.py", "resource.py"):
        (tmp_path / name).write_text("raise SystemExit('this was run')")
    monkeypatch.chdir(tmp_path)
    assert check_file(path, JSONL, most_bytes=LIMIT) == Looked(DatasetKind.TEXT, 1)
