"""The ids that configs name, in every form."""

from __future__ import annotations

from typing import Any

from workers.engine.pruning.token_ids import named_ids, with_ids

CONFIG: dict[str, Any] = {
    "bos_token_id": 1,
    "eos_token_id": [2, 7],
    "pad_token_id": None,
    "image_token_index": 5,
    "hidden_size": 2,
    "tokenizer_class": "X",
    "suppress_tokens": [3, 7],
    "begin_suppress_tokens": [8],
    "bad_words_ids": [[3, 2], [7]],
    "forced_decoder_ids": [[1, 2], [2, 8]],
    "sequence_bias": [[[7, 2], -1.5]],
    "text_config": {"decoder_start_token_id": 2, "vocab_size": 9},
}


def test_every_id_is_found() -> None:
    assert named_ids(CONFIG) == {1, 2, 3, 5, 7, 8}


def test_every_id_is_changed_and_what_is_gone_leaves_its_list() -> None:
    number = {1: 0, 2: 1, 5: 2, 7: 3}
    assert with_ids(CONFIG, number.get) == {
        "bos_token_id": 0,
        "eos_token_id": [1, 3],
        "pad_token_id": None,
        "image_token_index": 2,
        "hidden_size": 2,
        "tokenizer_class": "X",
        "suppress_tokens": [3],
        "begin_suppress_tokens": [],
        "bad_words_ids": [[1], [3]],
        "forced_decoder_ids": [[1, 1]],
        "sequence_bias": [[[3, 1], -1.5]],
        "text_config": {"decoder_start_token_id": 1, "vocab_size": 9},
    }
