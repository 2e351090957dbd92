"""Uploaded data sets in the engine: slices of each format, and the same tokens as the same words elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pyarrow as arrow
import pytest
import torch
from pyarrow import parquet
from transformers import AutoConfig

from app.services.dataset_files import look_through
from secateur.contract.datasets import DatasetFormat, DatasetKind
from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.options.recovery import LoraRecovery, NoRecovery
from secateur.contract.options.texts import LocalText, UploadText
from secateur.contract.protocol import UploadedFile
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.recovery.instruction_data import training_data
from workers.engine.recovery.job import RecoveryJob
from workers.engine.runtime import Machine
from workers.engine.text.calibration import token_batch
from workers.engine.text.text_source import TextSource
from workers.engine.text.uploads import find_upload, upload_documents, upload_pieces, upload_rows

ID = uuid4()
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def uploaded(path: Path, format: DatasetFormat) -> UploadedFile:
    """As the service would have taken it."""
    looked = look_through(path, format, most_bytes=1 << 30)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return UploadedFile(path=path, name=path.name, format=format, kind=looked.kind, rows=looked.rows, sha256=sha256)


def write(tmp_path: Path, format: DatasetFormat, rows: list[dict[str, Any]]) -> UploadedFile:
    path = tmp_path / f"content.{format.value}"
    if format is DatasetFormat.PARQUET:
        parquet.write_table(arrow.Table.from_pylist(rows), path, row_group_size=7)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return uploaded(path, format)


def part(start: float = 0.0, stop: float = 1.0, id: UUID = ID) -> UploadText:
    return UploadText(source="upload", id=id, start=start, stop=stop)


@pytest.mark.parametrize("format", [DatasetFormat.JSONL, DatasetFormat.PARQUET])
@pytest.mark.parametrize("cuts", [(0.5,), (0.1, 0.37, 0.9), (0.33, 0.331, 0.999)])
def test_slices_that_touch_are_disjoint_and_make_the_whole(
    tmp_path: Path, format: DatasetFormat, cuts: tuple[float, ...]
) -> None:
    rows = [{"text": f"row {number} \u2028 äöü" * (number % 5)} for number in range(100)]
    file = write(tmp_path, format, rows)
    found = [row for a, b in pairwise([0.0, *cuts, 1.0]) for _, row in upload_rows(part(a, b), file)]
    assert found == rows
    assert list(upload_documents(part(), file)) == [row["text"] for row in rows]


def test_a_plain_text_is_sliced_as_a_local_one(tmp_path: Path) -> None:
    path = tmp_path / "content.txt"
    path.write_text("\ufefffirst line\nsecond line\nthird line\n")
    file = uploaded(path, DatasetFormat.TEXT)
    assert "".join(upload_pieces(part(), file, most=9)) == "first line\nsecond line\nthird line\n"
    assert "".join(upload_pieces(part(0.1), file, most=1000)) == "second line\nthird line\n"


def test_one_that_the_stage_was_not_given(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is not on this machine") as caught:
        find_upload(part(), {})
    assert caught.value.errors[0].pointer == "text/id"


@pytest.mark.parametrize("format", list(DatasetFormat))
def test_a_file_that_was_changed(tmp_path: Path, format: DatasetFormat) -> None:
    file = write(tmp_path, DatasetFormat.JSONL, [{"text": "a"}]).model_copy(update={"format": format})
    file.path.write_bytes(b"\xff\n")
    with pytest.raises(StageFailed, match="is not what was uploaded"):
        list(upload_rows(part(), file))


# --- token batches -----------------------------------------------------------------------------------------------


def no_model() -> Any:
    raise AssertionError("no model is needed for a text that is given")


def text_source(checkpoint: Path, tmp_path: Path, file: UploadedFile) -> TextSource:
    return TextSource(
        checkpoint=checkpoint,
        config=AutoConfig.from_pretrained(checkpoint),
        fingerprint="f" * 64,
        load=no_model,
        machine=Machine(device=torch.device("cpu"), dtype=torch.float32, threads=1, seed=0),
        data_roots=[tmp_path],
        cache=tmp_path / "cache",
        seed=0,
        uploads={ID: file},
    )


def test_the_same_words_give_the_same_tokens(tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """A text that was uploaded, rows of JSON, rows of a table, and a local file."""
    checkpoint = tiny_checkpoint(num_hidden_layers=1)
    documents = [f"document {number}" for number in range(60)]
    whole = tmp_path / "whole.txt"
    whole.write_text("\n\n".join(documents))
    rows = [{"text": document} for document in documents]

    def batch(text: Any, file: UploadedFile) -> tuple[Any, Any]:
        source = text_source(checkpoint, tmp_path, file)
        return token_batch(source, text, purpose="calibration", samples=5, tokens=32)

    plain = uploaded(whole, DatasetFormat.TEXT)
    expected, local = batch(LocalText(source="local", path="whole.txt"), plain)
    for file in (plain, write(tmp_path, DatasetFormat.JSONL, rows), write(tmp_path, DatasetFormat.PARQUET, rows)):
        found, info = batch(part(), file)
        assert torch.equal(found, expected)
        assert (info.source, info.identity, info.sha256) == ("upload", file.sha256, local.sha256)
        assert info.description.startswith(f"{file.path.name}, 0 to 1")
    with pytest.raises(InvalidInput, match="of the kind chat"):
        batch(part(), write(tmp_path, DatasetFormat.JSONL, [{"messages": MESSAGES}]))


@pytest.mark.parametrize("kind", [DatasetKind.ALPACA, DatasetKind.CHAT])
def test_instruction_data_train_as_a_local_file_does(
    tiny_checkpoint: Callable[..., Path], tmp_path: Path, kind: DatasetKind
) -> None:
    """Masked prompts, packing and tokens are those of a local file with the same lines."""
    checkpoint = tiny_checkpoint(num_hidden_layers=1)
    (checkpoint / "chat_template.jinja").write_text(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    alpaca = [
        {"instruction": f"Say {number}.", "input": "x" * (number % 3), "output": "ok \u2028"} for number in range(9)
    ]
    rows: list[dict[str, Any]] = alpaca if kind is DatasetKind.ALPACA else [{"messages": MESSAGES}] * 9
    local = LocalText(source="local", path="content.jsonl", start=0.2)

    def data(text: Any, file: UploadedFile) -> Any:
        options = LoraRecovery(text=text, format=kind.value, mask_prompt=True, tokens=256)
        source = text_source(checkpoint, tmp_path, file)
        job = RecoveryJob(
            pruned=Checkpoint.open(checkpoint),
            original=Checkpoint.open(checkpoint),
            kept=(0,),
            out=tmp_path,
            scratch=tmp_path,
            options=NoRecovery(kind="none"),
            machine=source.machine,
            texts=source,
        )
        return training_data(job, options)

    jsonl = write(tmp_path, DatasetFormat.JSONL, rows)
    expected, _ = data(local, jsonl)
    found, info = data(part(0.2), jsonl)
    assert torch.equal(found.ids, expected.ids)
    assert torch.equal(found.columns["labels"], expected.columns["labels"])
    assert (info.source, info.identity) == ("upload", jsonl.sha256)
    whole, _ = data(part(), jsonl)
    table, _ = data(part(), write(tmp_path, DatasetFormat.PARQUET, rows))
    assert torch.equal(table.ids, whole.ids)
    assert torch.equal(table.columns["labels"], whole.columns["labels"])
