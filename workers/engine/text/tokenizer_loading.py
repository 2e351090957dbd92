"""Loading the tokenizer that lies beside a checkpoint's weights; no code of the checkpoint's own is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from workers.engine.blame import is_over_input
from workers.engine.text.tokenizer_files import check_ids, tokenizer_fault


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer beside the weights.

    Raises:
        InvalidInput: the folder has none that transformers can load, or one whose ids are not those of its file.
    """
    try:
        tokenizer = _loaded(path)
    except BaseException as error:  # the libraries raise bare Exceptions, and panics that are none
        if not is_over_input(error):
            raise
        raise tokenizer_fault(path, error, _loaded) from error
    check_ids(path, tokenizer)
    return tokenizer


def _loaded(path: Path) -> PreTrainedTokenizerBase:
    tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    tokenizer("a", verbose=False)  # some break at the first text
    _without_dropout(tokenizer)
    return cast(PreTrainedTokenizerBase, tokenizer)


def _without_dropout(tokenizer: Any) -> None:
    """Byte-pair merges are left out at random where tokenizer.json has `dropout`, which is for training: the same text
    would have other tokens each time."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if getattr(model, "dropout", None):
        cast(Any, model).dropout = None
