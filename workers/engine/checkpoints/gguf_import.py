"""Turn a GGUF file into a safetensors checkpoint: weights dequantised, config, tokenizer and chat template with it.

transformers reads GGUF itself (`gguf_file=`), names and permutes the tensors for its own classes, and rebuilds the
tokenizer, so its reader is used and not written again. Three things stand between that and a checkpoint:

- `save_pretrained` refuses ("quantized with gguf and is not serializable") although the weights have been
  dequantised; the quantizer and its entry in the config are detached.
- The file is parsed anew for config, tokenizer and weights, and the table of tensor names is rebuilt once per
  module. Both are pure functions of their arguments, so their results are kept while the import runs: SmolLM2-135M
  then takes a quarter of the time.
- Files that lie beside the GGUF (another tokenizer, a config) would be mixed in; so the file is linked into an
  empty folder first.

Dequantised values are exact in float32, and transformers itself resolves `dtype="auto"` to float32 for a quantised
file; so float32 is the default. bfloat16 halves the checkpoint, and rounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import gguf
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel

from app.errors import BadCheckpoint, UnsupportedModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.gguf_file import read_gguf_header
from workers.engine.progress import Progress, no_progress


def import_gguf(
    source: Path, target: Path, *, dtype: torch.dtype = torch.float32, progress: Progress = no_progress
) -> None:
    """Write the checkpoint of the GGUF file `source` into the folder `target`, which is created if need be.

    Args:
        dtype: of the weights on disk; float32 keeps the dequantised values exactly.
        progress: called in three steps: config and tokenizer, weights, saving.

    Raises:
        BadCheckpoint: the file is broken, is one part of a split file, or has no tokenizer.
        UnsupportedModel: transformers cannot read this family, or this kind of quantisation, from GGUF.
    """
    header = read_gguf_header(source)
    if header.values.get("split.count") is not None and header.values["split.count"].value not in (0, 1):
        raise BadCheckpoint(f"{source.name}: the file is one part of a split model; merge the parts first.")
    if "tokenizer.ggml.model" not in header.values:
        raise BadCheckpoint(f"{source.name}: the file has no tokenizer, which a checkpoint needs.")
    architecture = header.architecture
    with tempfile.TemporaryDirectory(prefix="gguf-") as folder, _parsed_once():
        (Path(folder) / source.name).symlink_to(source.resolve())
        try:
            progress(0, 3, "steps")
            config = AutoConfig.from_pretrained(folder, gguf_file=source.name)
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=source.name, config=config)
            progress(1, 3, "steps")
            dense = GgufConfig(dequantize=True)  # where a kernel is at hand, the weights would stay packed
            model = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=source.name, config=config, dtype=dtype, quantization_config=dense
            )
        except Exception as error:  # the reader raises whatever it runs into, for families and types it lacks
            raise UnsupportedModel(
                f"{source.name}: transformers cannot read this GGUF (architecture {architecture!r}): "
                f"{_first_line(error)}"
            ) from error
        progress(2, 3, "steps")
        detach_gguf(model)
        target.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    for file in target.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors leaves them to their owner alone
    Checkpoint.open(target)
    progress(3, 3, "steps")


def detach_gguf(model: PreTrainedModel) -> None:
    """Make a model that was loaded with `gguf_file=` an ordinary one, which `save_pretrained` takes."""
    for name in ("hf_quantizer", "is_quantized", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Keep the `gguf` package's parsed file and name table while the block runs."""
    originals = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    try:
        for name, original in originals.items():
            setattr(gguf, name, lru_cache(maxsize=4)(original))
        yield
    finally:
        for name, original in originals.items():
            setattr(gguf, name, original)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
