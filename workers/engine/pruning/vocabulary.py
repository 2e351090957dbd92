"""Vocabulary pruning: tokens that a text hardly uses go, and with them their rows of embedding and head.

Everything else is copied as it is, so for a text of kept tokens the model gives the very logits that it gave for them
before (Abdaoui et al. 2020, Load What You Need, arXiv 2010.05609). Which parameters have a row for each token is asked
of the model's class, built without weights with the old vocabulary and with the new one: those whose shape differs.
Rows beyond the tokenizer, which some models have to fill up, go too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from secateur.contract.vocabulary import check_tokens
from workers.engine.architectures.config import as_config
from workers.engine.architectures.discovery import skeleton
from workers.engine.checkpoints.checkpoint import CONFIG_FILE, Checkpoint, read_json_file
from workers.engine.checkpoints.generation_file import GENERATION_FILE
from workers.engine.checkpoints.json_file import write_json
from workers.engine.checkpoints.names_on_disk import recipes_of, shapes_of
from workers.engine.checkpoints.new_folder import new_folder
from workers.engine.checkpoints.parameters import count_parameters
from workers.engine.checkpoints.side_files import copy_side_files
from workers.engine.progress import Progress, no_progress
from workers.engine.pruning.header_rewrite import write_renamed
from workers.engine.pruning.token_ids import named_ids, with_ids
from workers.engine.pruning.tokenizer_rewrite import (
    Written,
    added_tokens,
    pieces_of,
    put_around,
    read_tokenizer,
    refused,
    write_tokenizer,
)
from workers.engine.pruning.vocabulary_choice import Counts, tokens_to_keep
from workers.engine.text.tokenizer_loading import load_tokenizer


@dataclass(frozen=True)
class VocabularyPlan:
    """What stays, and the files that say so."""

    kept: tuple[int, ...]  # ids in the original, ascending; their places are the new ids
    before: int  # tokens of the original's tokenizer
    rows: int  # of the original's embedding
    written: Written  # the original's tokenizer
    config: dict[str, Any]  # as config.json will have it
    cut: frozenset[str]  # tensors on disk with a row for each token


@dataclass(frozen=True)
class VocabularyPruned:
    """What the model weighs."""

    parameters_before: int
    parameters_after: int
    bytes_before: int  # of tensors
    bytes_after: int


def plan_vocabulary(checkpoint: Checkpoint, counts: Counts, *, tokens: int) -> VocabularyPlan:
    """What stays of this checkpoint's vocabulary.

    Args:
        counts: how often each id occurs in a text, (ids,).
        tokens: how many stay.

    Raises:
        InvalidInput: so many cannot write every text, or they are all that there are.
        UnsupportedModel: the tokenizer cannot be rewritten, or the model's class has no plain rows for its tokens.
    """
    rows = int(as_config(checkpoint.config).vocab_size)
    written = read_tokenizer(checkpoint.path)
    pieces, added = pieces_of(written), added_tokens(written)
    known = {*pieces.words.values(), *added.values()}
    if max(known) >= rows:
        raise refused(f"The model's tokenizer has tokens beyond the {rows:,} that the model embeds.")
    check_tokens(tokens, len(known), pointer="tokens")
    named = named_ids(checkpoint.config) | named_ids(_generation(checkpoint.path)) | put_around(written)
    kept = tokens_to_keep(pieces, counts, tokens=tokens, needed={*added.values(), *(named & known)})
    number = {old: new for new, old in enumerate(kept)}
    config = {**with_ids(checkpoint.config, number.get), "vocab_size": len(kept)}
    return VocabularyPlan(tuple(kept), len(known), rows, written, config, rows_of_tokens(checkpoint, config))


def prune_vocabulary(
    source: Checkpoint,
    target: Path,
    *,
    plan: VocabularyPlan,
    probes: Iterable[str] = (),
    progress: Progress = no_progress,
) -> VocabularyPruned:
    """Write the checkpoint `source` with fewer tokens into the new folder `target`.

    The folder appears under its name only when it is complete; after an error nothing is left.

    Args:
        plan: of this very source.
        probes: texts that the new tokenizer has to read and write back as the old one does.

    Raises:
        BadCheckpoint: the source has changed since it was opened.
        UnsupportedModel: transformers reads the new tokenizer otherwise than its file says.
        StageFailed: the disk is full, or `target` exists.
    """
    number = {old: new for new, old in enumerate(plan.kept)}
    with new_folder(target) as folder:
        write_renamed(
            source,
            folder,
            lambda name: name,
            rows=lambda name: plan.kept if name in plan.cut else None,
            progress=progress,
        )
        write_json(folder / CONFIG_FILE, plan.config)
        write_side_files(source.path, folder, plan)
        generation = _generation(source.path)
        if generation:
            write_json(folder / GENERATION_FILE, with_ids(generation, number.get))
        check_tokenizer(source.path, folder, plan, probes)
        pruned = Checkpoint.open(folder)
    return VocabularyPruned(
        parameters_before=count_parameters(source.config).total,
        parameters_after=count_parameters(pruned.config).total,
        bytes_before=source.total_bytes,
        bytes_after=pruned.total_bytes,
    )


def write_side_files(source: Path, folder: Path, plan: VocabularyPlan) -> None:
    """All that lies beside the weights, with the tokenizer of the plan."""
    copy_side_files(source, folder)
    write_tokenizer(source, folder, plan.written, plan.kept)


def check_tokenizer(source: Path, folder: Path, plan: VocabularyPlan, probes: Iterable[str]) -> None:
    """Hold the tokenizer in `folder`, as transformers loads it, against the original's.

    Raises:
        UnsupportedModel: they name a token by different texts, or write a probe back differently.
    """
    before, after = load_tokenizer(source), load_tokenizer(folder)
    old: Any = before.convert_ids_to_tokens(list(plan.kept))
    new: Any = after.convert_ids_to_tokens(list(range(len(plan.kept))))
    if old != new or len(after) != len(plan.kept):
        raise refused("transformers gives the tokens of the rewritten tokenizer other numbers than its file does.")
    back = partial(_written_back, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    for probe in probes:
        if back(before, probe) != back(after, probe):
            raise refused("The rewritten tokenizer does not write a text back as the original's does.")


def _written_back(tokenizer: PreTrainedTokenizerBase, text: str, **how: Any) -> str:
    return str(tokenizer.decode(tokenizer(text, verbose=False)["input_ids"], **how))


def _generation(folder: Path) -> dict[str, Any]:
    """generation_config.json; empty where there is none."""
    file = folder / GENERATION_FILE
    return read_json_file(file) if file.is_file() else {}


def rows_of_tokens(checkpoint: Checkpoint, config: dict[str, Any]) -> frozenset[str]:
    """The tensors on disk that have a row for each token: those of the parameters whose shapes differ.

    Raises:
        UnsupportedModel: a parameter follows the vocabulary in another way.
    """
    model = skeleton(as_config(checkpoint.config))
    shapes, smaller = shapes_of(model), shapes_of(skeleton(as_config(config)))
    changed = {name for name, shape in shapes.items() if smaller.get(name) != shape}
    recipes = {recipe.target: recipe for recipe in recipes_of(checkpoint, model, shapes)}
    found: set[str] = set()
    for name in changed:
        same = name in smaller and smaller[name][1:] == shapes[name][1:]
        if not same or (name in recipes and recipes[name].converter is not None):
            reason = f"The parameter {name} has no plain row for each token, so tokens cannot be removed from it."
            raise refused(reason)
        if name in recipes:
            found |= {source for _, source in recipes[name].sources}
    return frozenset(found)
