"""How much text a training asks for: what its bounds let it use, and no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from transformers import AutoConfig

from secateur.contract.datasets import DatasetFormat, DatasetKind
from secateur.contract.options.recovery import ContinuedRecovery, DistillRecovery, LoraRecovery
from secateur.contract.options.texts import LocalText, UploadText
from secateur.contract.protocol import UploadedFile
from secateur.contract.training_steps import GENERATED_SAMPLES, held_out, total_steps
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.recovery.instruction_data import training_data
from workers.engine.recovery.job import RecoveryJob, settings_of
from workers.engine.recovery.training_text import TEXT_SHARE, most_samples, samples_asked, training_samples
from workers.engine.runtime import Machine
from workers.engine.text import text_ids
from workers.engine.text.text_source import TextSource
from workers.engine.text.tokenizing import BoundedEncoder

FILE = LocalText(source="local", path="news.txt")


@pytest.mark.parametrize(
    ("given", "own", "read"),
    [
        ({"max_steps": 20}, 80, 160),  # batches of 8; two passes over what the model writes
        ({"max_steps": 20, "batch_size": 4}, 40, 80),
        ({"max_steps": 20, "epochs": 1}, 160, 160),
        ({"max_steps": 20, "epochs": 0.5}, 320, 320),  # half of the text is trained on
        ({"max_tokens": 20 * 8 * 256 + 5}, 80, 160),
        ({"max_steps": 20, "max_tokens": 10 * 8 * 256}, 40, 80),
        ({"max_steps": 1000}, GENERATED_SAMPLES, 8000),
        ({}, GENERATED_SAMPLES, None),
        ({"max_steps": 20, "samples": 100}, 100, 100),
        ({"samples": 100_000, "max_steps": 20}, 160, 160),
    ],
)
def test_text_that_the_model_writes_is_used_in_every_pass_and_text_that_is_read_once(
    given: dict[str, Any], own: int, read: int | None
) -> None:
    assert samples_asked(DistillRecovery(**given)) == own
    assert samples_asked(DistillRecovery(**given, text=FILE)) == read


def test_so_much_is_enough_for_every_step_that_is_asked_for() -> None:
    lengths = product([1, 2, 7, 20, 33], [1, 3, 8], [0.1, 0.5, 1, 2, 2.5, 7], [0, 0.01, 0.05, 0.25, 0.5])
    for steps, batch, epochs, validation in lengths:
        options = DistillRecovery(
            max_steps=steps, batch_size=batch, micro_batch_size=1, epochs=epochs, validation=validation, text=FILE
        )
        for samples in (most_samples(options), most_samples(options, passes=epochs)):
            assert samples is not None
            settings = settings_of(options, samples=samples)
            trained = samples - held_out(samples, validation)
            assert total_steps(trained, options.tokens, options) == steps, options
            assert settings.warmup_steps <= steps / 10


# --- minutes -----------------------------------------------------------------------------------------------------

LONG = 1_600_000  # bytes of a text
SPEED = 100_000  # characters that are tokenised in a second here
UPLOAD = UUID("01935e3a-1c3a-7b6e-9a53-4c1f2d3e4f50")


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Of tokenising, one for each call; other work takes no time."""
    spent: list[float] = []
    encoded = BoundedEncoder._encoded

    def slow(self: BoundedEncoder, text: str, **more: Any) -> Any:
        spent.append(len(text) / SPEED)
        return encoded(self, text, **more)

    monkeypatch.setattr(BoundedEncoder, "_encoded", slow)
    monkeypatch.setattr("workers.engine.recovery.clock.time.monotonic", lambda: sum(spent))
    monkeypatch.setattr(text_ids, "TIMED_BYTES", 20_000)
    monkeypatch.setattr(text_ids, "CHUNK_BYTES", 16 * 20_000)  # documents are read in sixteenths of it
    return spent


@pytest.fixture
def job(tiny_checkpoint: Callable[..., Path], text_file: Path, tmp_path: Path) -> Callable[..., RecoveryJob]:
    """One attempt, or the check before it, which has a scratch folder of its own."""
    checkpoint = tiny_checkpoint(num_hidden_layers=1)

    def attempt(options: Any, scratch: str, path: Path) -> RecoveryJob:
        machine = Machine(torch.device("cpu"), torch.float32, 1, 0)
        upload = UploadedFile(
            path=path, name=path.name, format=DatasetFormat.PARQUET, kind=DatasetKind.TEXT, rows=40_000, sha256="5" * 64
        )
        return RecoveryJob(
            pruned=Checkpoint.open(checkpoint),
            original=Checkpoint.open(checkpoint),
            kept=(0,),
            out=tmp_path / "out",
            scratch=tmp_path / scratch,
            options=options,
            machine=machine,
            texts=TextSource(
                checkpoint=checkpoint,
                config=AutoConfig.from_pretrained(checkpoint),
                fingerprint="f" * 64,
                load=lambda: pytest.fail("no model is needed"),
                machine=machine,
                data_roots=[text_file.parent],
                cache=tmp_path / "cache",
                seed=0,
                uploads={UPLOAD: upload},
            ),
        )

    return attempt


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["plain.txt", "rows.jsonl", "alpaca.jsonl", "rows.parquet"])
def test_a_long_text_takes_its_share_of_the_minutes_whatever_it_is(
    job: Callable[..., RecoveryJob], seconds: list[float], text_file: Path, name: str
) -> None:
    file = text_file.parent / name
    lines = [f"line {number:06d} of a text that is long enough" for number in range(LONG // 43)]
    if name == "plain.txt":
        file.write_text("\n".join(lines))
    elif name == "rows.parquet":
        parquet.write_table(pa.table({"text": lines}), file)
    else:
        alpaca = name.startswith("alpaca")
        rows = [{"instruction": "Go on.", "output": line} if alpaca else {"text": line} for line in lines]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    local = LocalText(source="local", path=name)
    text = UploadText(source="upload", id=UPLOAD) if name.endswith("parquet") else local

    def read(scratch: str) -> tuple[Any, Any]:
        if name.startswith("alpaca"):
            tuned = LoraRecovery(text=text, tokens=64, max_minutes=1, format="alpaca")
            return training_data(job(tuned, scratch, file), tuned)
        options = ContinuedRecovery(kind="continued", text=text, tokens=64, max_minutes=1)
        return training_samples(job(options, scratch, file), options)[:2]

    _, first = read("check")
    share = TEXT_SHARE * 60
    assert share / 2 <= sum(seconds) <= share * 1.2  # it is ended between two pieces
    assert first.samples > 50
    before = len(seconds)
    _, again = read("recovery")
    assert len(seconds) == before
    assert again == first
