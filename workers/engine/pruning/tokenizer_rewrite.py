"""A tokenizer with fewer tokens, in the files that transformers reads.

tokenizer.json says all of it: tokens, merges or scores, added tokens and what is put around a text. Those that stay
keep their order, and get the numbers from 0 on. What other files say of ids follows; files of the old forms, which
would say otherwise, are left out. Templates name tokens by their text, and stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from secateur.contract.errors import InvalidInput, UnsupportedModel
from workers.engine.checkpoints.checkpoint import read_json_file
from workers.engine.checkpoints.json_file import write_json
from workers.engine.checkpoints.side_files import side_files
from workers.engine.pruning.vocabulary_choice import BytePairs, Pieces, Unigrams

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
ADDED = "added_tokens.json"
OLD_FORMS = frozenset({".model", ".tiktoken"})
OLD_FILES = frozenset({"vocab.json", "vocab.txt", "merges.txt", "tekken.json"})
_MODELS: Mapping[str, Callable[[Mapping[str, Any]], Pieces]] = {"BPE": BytePairs, "Unigram": Unigrams}
_EXPECTED = "another kind of pruning, or a model with byte-pair encoding or a unigram model in its tokenizer.json"

Written = dict[str, Any]  # a tokenizer.json


def read_tokenizer(folder: Path) -> Written:
    """The tokenizer of the checkpoint in `folder`, if it can be rewritten.

    Raises:
        UnsupportedModel: it cannot, and why.
    """
    if not (folder / TOKENIZER).is_file():
        raise refused(f"The model has no {TOKENIZER}, and vocabularies in other files are not rewritten.")
    if (folder / SETTINGS).is_file() and "auto_map" in read_json_file(folder / SETTINGS):
        raise refused("The model's tokenizer is code of its own, which does what its files do not tell.")
    written = read_json_file(folder / TOKENIZER)
    model = written.get("model") or {}
    kind = model.get("type")
    if kind not in _MODELS:
        raise refused(f"The model's tokenizer is of the kind {kind}, and BPE and Unigram are known here.")
    for entry in ("continuing_subword_prefix", "end_of_word_suffix"):
        if kind == "BPE" and model.get(entry):
            raise refused(f"The model's tokenizer has the setting {entry}, so its tokens are not what they spell.")
    return written


def refused(reason: str) -> InvalidInput:
    """The error for a tokenizer that cannot be rewritten; `reason` is a whole sentence."""
    return UnsupportedModel.field("kind", reason, value="vocabulary", expected=_EXPECTED)


def pieces_of(written: Written) -> Pieces:
    """What the tokenizer writes text with."""
    return _MODELS[written["model"]["type"]](written["model"])


def added_tokens(written: Written) -> dict[str, int]:
    """Tokens that are found in a text as a whole, special ones among them, by their ids."""
    return {token["content"]: token["id"] for token in written.get("added_tokens") or []}


def put_around(written: Written) -> set[int]:
    """Ids of the tokens that the tokenizer puts around a text, or fills it up with."""
    found: set[int] = set()

    def seen(number: int) -> int:
        found.add(number)
        return number

    _around(written.get("post_processor"), seen)
    _around(written.get("padding"), seen)
    return found


def rewritten(written: Written, kept: Sequence[int]) -> Written:
    """The tokenizer with the tokens of these ids, ascending, which get the numbers from 0 on."""
    number = {old: new for new, old in enumerate(kept)}
    model = dict(written["model"])
    if model["type"] == "BPE":
        ordered = sorted(model["vocab"].items(), key=lambda entry: entry[1])
        vocab = {word: number[old] for word, old in ordered if old in number}
        model["vocab"] = vocab
        model["merges"] = [merge for merge in model["merges"] if _is_left(merge, vocab)]
    else:
        model["vocab"] = [entry for old, entry in enumerate(model["vocab"]) if old in number]
        if model.get("unk_id") is not None:
            model["unk_id"] = number[model["unk_id"]]
    return {
        **written,
        "model": model,
        "added_tokens": [
            {**token, "id": number[token["id"]]} for token in written.get("added_tokens") or [] if token["id"] in number
        ],
        "post_processor": _around(written.get("post_processor"), number.__getitem__),
        "padding": _around(written.get("padding"), number.__getitem__),
    }


def write_tokenizer(source: Path, folder: Path, written: Written, kept: Sequence[int]) -> None:
    """Write the rewritten tokenizer over the files that `folder` has of the checkpoint in `source`."""
    number = {old: new for new, old in enumerate(kept)}
    for name in side_files(source):
        if name.suffix in OLD_FORMS or name.name in OLD_FILES:
            (folder / name).unlink(missing_ok=True)
    write_json(folder / TOKENIZER, rewritten(written, kept))
    if (source / SETTINGS).is_file():
        settings = read_json_file(source / SETTINGS)
        listed = settings.get("added_tokens_decoder")
        if isinstance(listed, dict):
            left = {str(number[int(old)]): token for old, token in listed.items() if int(old) in number}
            settings["added_tokens_decoder"] = left
        write_json(folder / SETTINGS, settings)
    if (source / ADDED).is_file():
        ids = read_json_file(source / ADDED)
        write_json(folder / ADDED, {token: number[old] for token, old in ids.items() if old in number})


def _is_left(merge: Any, vocab: Mapping[str, int]) -> bool:
    """Whether both tokens of a merge are left, and the one that it makes."""
    left, right = merge if isinstance(merge, list) else merge.split(" ", 1)
    return left in vocab and right in vocab and left + right in vocab


def _around(part: Any, change: Any) -> Any:
    """A post-processor, or how texts are filled up, with its ids changed."""
    if isinstance(part, list):
        return [_around(item, change) for item in part]
    if not isinstance(part, dict):
        return part
    found = {key: _around(value, change) for key, value in part.items()}
    if isinstance(part.get("ids"), list):  # of a special token of a template
        found["ids"] = [change(number) for number in part["ids"]]
    if type(part.get("pad_id")) is int:
        found["pad_id"] = change(part["pad_id"])
    for name in ("sep", "cls"):  # of BERT and RoBERTa: a token with its id
        if isinstance(part.get(name), list):
            found[name] = [part[name][0], change(part[name][1])]
    return found
