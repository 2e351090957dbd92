"""The sizes of a GGUF file's model, told from its head, are those of the model that the file was written from."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.services.gguf_config import gguf_file
from secateur.contract.models.parameters import key_value_size, parameter_count
from tests.fixtures.gguf_models import WRITTEN, tiny_model, write_model
from tests.fixtures.small_files import write_gguf

WITHOUT_A_FORMULA = {"starcoder2", "nemotron"}


@pytest.mark.parametrize("model_type", sorted(set(WRITTEN) - WITHOUT_A_FORMULA))
def test_every_family(model_type: str, tmp_path: Path) -> None:
    model = tiny_model(model_type, tie_word_embeddings=bool(WRITTEN[model_type].tied))
    written = write_model(tmp_path / "m.gguf", model)
    found = gguf_file(written)
    assert found is not None
    count = parameter_count(found.config)
    assert count is not None
    assert count == parameter_count(model.config.to_dict())
    assert key_value_size(found.config) == key_value_size(model.config.to_dict())
    assert found.bytes == written.stat().st_size
    inside = 4 * sum(block.total for block in count.blocks)  # written in float32, but for what is aligned
    assert inside <= sum(found.block_bytes) <= 1.05 * inside


@pytest.mark.parametrize("model_type", sorted(WITHOUT_A_FORMULA))
def test_families_without_a_formula(model_type: str, tmp_path: Path) -> None:
    assert gguf_file(write_model(tmp_path / "m.gguf", tiny_model(model_type))) is None


def test_a_head_that_does_not_tell(tmp_path: Path) -> None:
    assert gguf_file(write_gguf(tmp_path / "m.gguf", 3)) is None
    whole = write_model(tmp_path / "whole.gguf", tiny_model("llama")).read_bytes()
    for length in (0, 4, 24, 200, 2000):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        assert gguf_file(tmp_path / "cut.gguf") is None


def test_tensors_that_are_not_those_of_the_keys(tmp_path: Path) -> None:
    """A size that is claimed and not there."""
    raw = write_model(tmp_path / "m.gguf", tiny_model("llama")).read_bytes()
    key = b"llama.feed_forward_length"
    at = raw.index(key) + len(key) + 4
    (tmp_path / "m.gguf").write_bytes(raw[:at] + (4711).to_bytes(4, "little") + raw[at + 4 :])
    assert gguf_file(tmp_path / "m.gguf") is None
