"""The first rows of a data set: no more than its beginning is read, and a model's tokenizer is asked elsewhere."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pyarrow as arrow
import pytest
from pyarrow import parquet

from app.blobs.store import ArtifactStore, memory_store, open_store
from app.db.session import SessionFactory
from app.http.multipart import ReceivedFile, ReceivedForm
from app.services import dataset_rows, datasets
from app.services.dataset_files import look_through
from app.services.dataset_rows import HEAD_BYTES, Asked, preview
from app.settings import Settings
from secateur.contract.errors import InvalidInput, NotFound, Unavailable
from secateur.schemas.datasets import DatasetRows
from tests.fixtures.tokenizers import byte_fallback, write_model

ASKED = Asked(count=10, characters=1000)
Shown = Callable[..., DatasetRows]


@pytest.fixture
def store(settings: Settings) -> ArtifactStore:
    return open_store(settings.store_url)


@pytest.fixture
def shown(
    sessions: SessionFactory,
    settings: Settings,
    store: ArtifactStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Shown:
    """Store this content as a data set, and look at its rows."""
    monkeypatch.setattr(datasets, "check_file", look_through)  # here, and not in a process that imports for a while

    def look(content: bytes, name: str = "rows.jsonl", *, into: ArtifactStore = store, **asked: Any) -> DatasetRows:
        path = tmp_path / uuid4().hex / name
        path.parent.mkdir()
        path.write_bytes(content)
        form = ReceivedForm({}, ReceivedFile(path, name, len(content), sha256(content)))
        added = datasets.add(sessions, into, form, most_bytes=1 << 30)
        return preview(sessions, into, settings, added.dataset.id, replace(ASKED, **asked))

    return look


def sha256(content: bytes) -> str:

    return hashlib.sha256(content).hexdigest()


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def table(**columns: Any) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(arrow.table(columns), sink)
    return sink.getvalue()


def told(rows: DatasetRows) -> list[Any]:
    return [(row.number, row.fields, row.cut) for row in rows.data]


def test_rows_have_the_fields_of_their_kind(shown: Shown) -> None:
    row = {"instruction": "Add.", "output": "3", "source": "me"}
    assert told(shown(lines(row, row, row), count=2)) == [
        (number, {"instruction": "Add.", "output": "3"}, False) for number in (1, 2)
    ]
    array = json.dumps([{"text": "one"}, {"text": "two"}]).encode()
    assert told(shown(array, "rows.json")) == [(1, {"text": "one"}, False), (2, {"text": "two"}, False)]


@pytest.mark.parametrize("in_bucket", [False, True])
def test_a_table_is_read_wherever_it_lies(shown: Shown, store: ArtifactStore, in_bucket: bool) -> None:
    found = shown(
        table(text=["one", "two"], more=[1, 2]), "rows.parquet", into=memory_store() if in_bucket else store, count=1
    )
    assert told(found) == [(1, {"text": "one"}, False)]


def test_a_plain_text_is_one_row(shown: Shown) -> None:
    assert told(shown("über\nunter\n".encode(), "a.txt")) == [(1, {"text": "über\nunter\n"}, False)]
    assert told(shown("über\nunter\n".encode(), "a.txt", characters=3)) == [(1, {"text": "übe"}, True)]


def test_long_texts_are_cut_to_so_many_characters_of_a_row(shown: Shown) -> None:
    messages = [{"role": "user", "content": "a" * 30}] * 3
    (row,) = shown(lines({"messages": messages}), characters=50).data
    assert row.cut
    assert sum(len(message["content"]) for message in row.fields["messages"]) <= 50


LONG = "a" * HEAD_BYTES


@pytest.mark.parametrize(
    "content",
    [
        lines({"text": "one"}, {"text": LONG}, {"text": "three"}),
        json.dumps([{"text": "one"}, {"text": LONG}, {"text": "three"}]).encode(),
        table(text=["one", LONG, "three"]),
    ],
    ids=["lines", "array", "table"],
)
def test_a_row_that_goes_beyond_the_files_beginning_is_the_last_and_empty(shown: Shown, content: bytes) -> None:
    name = "rows.parquet" if content.startswith(b"PAR1") else "rows.json"
    assert told(shown(content, name)) == [(1, {"text": "one"}, False), (2, {}, True)]


def test_a_first_row_that_is_too_long(shown: Shown) -> None:
    assert told(shown(lines({"text": LONG}))) == [(1, {}, True)]


def test_there_is_no_such_data_set(sessions: SessionFactory, store: ArtifactStore, settings: Settings) -> None:
    with pytest.raises(NotFound):
        preview(sessions, store, settings, UUID(int=1), ASKED)


def test_a_models_process_shows_what_it_sees(shown: Shown, model_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real process, as a host has it on which a worker is installed; however busy that is."""
    monkeypatch.setattr(dataset_rows, "CLOCK_SECONDS", 3600.0)
    write_model(model_root / "tiny", byte_fallback())
    found = shown(lines({"text": "the river"}, {"text": LONG}), model="tiny")
    first, second = (row.seen for row in found.data)
    assert first is not None
    assert [part.text for part in first.parts] == ["<s>the river"]
    assert second is None  # there was nothing to show it


def test_a_model_that_cannot_be_named(shown: Shown, model_root: Path, settings: Settings) -> None:
    with pytest.raises(InvalidInput, match="no such model") as caught:
        shown(lines({"text": "one"}), model="nope")
    assert (caught.value.errors[0].pointer, caught.value.errors[0].parameter) == ("", "query model")


def test_where_the_host_has_no_tokenizers(shown: Shown, model_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(model_root / "tiny", byte_fallback())
    monkeypatch.setattr(dataset_rows, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match="no tokenizers"):
        shown(lines({"text": "one"}), model="tiny")


def test_only_so_many_are_made_at_once(shown: Shown, model_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(model_root / "tiny", byte_fallback())
    monkeypatch.setattr(dataset_rows, "WAIT_SECONDS", 0.01)
    with dataset_rows._turns, dataset_rows._turns, pytest.raises(Unavailable, match="other previews"):
        shown(lines({"text": "one"}), model="tiny")


def test_what_the_process_says_is_wrong_with_the_model(
    shown: Shown, model_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(model_root / "tiny", byte_fallback())
    monkeypatch.setattr(dataset_rows, "_START", 'print(\'{"problem": {"detail": "it has no chat template"}}\')')
    with pytest.raises(InvalidInput, match="no chat template") as caught:
        shown(lines({"text": "one"}), model="tiny")
    assert caught.value.errors[0].parameter == "query model"


@pytest.mark.parametrize("program", ["raise SystemExit(1)", "while True: pass"])
def test_a_process_that_breaks_or_takes_too_long(
    shown: Shown, model_root: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    write_model(model_root / "tiny", byte_fallback())
    monkeypatch.setattr(dataset_rows, "_START", program)
    monkeypatch.setattr(dataset_rows, "CLOCK_SECONDS", 0.5)
    with pytest.raises(InvalidInput, match="it broke, or took too long"):
        shown(lines({"text": "one"}), model="tiny")


def test_the_process_that_reads_a_models_files_is_told_no_secret(
    shown: Shown, model_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(model_root / "tiny", byte_fallback())
    monkeypatch.setenv("SECATEUR_DATABASE_URL", "postgresql://me:hunter22@host/name")
    monkeypatch.setenv("HF_TOKEN", "hf_abcDEF123456")
    tells = "import json, os; print(json.dumps({'problem': {'detail': 'PATH=' + str(dict(os.environ))}}))"
    monkeypatch.setattr(dataset_rows, "_START", tells)
    with pytest.raises(InvalidInput, match="PATH=") as caught:
        shown(lines({"text": "one"}), model="tiny")
    assert "hunter22" not in caught.value.detail
    assert "hf_abcDEF" not in caught.value.detail
