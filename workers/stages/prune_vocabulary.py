"""The prune stage for the vocabulary: a text is counted, and a checkpoint with fewer tokens is written."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from secateur.contract.options.vocabulary import VocabularyPruning
from secateur.contract.results import KeptVocabulary, Pruned, TextInfo
from workers.engine.architectures.config import as_config
from workers.engine.checkpoints.json_file import write_json
from workers.engine.pruning.tokenizer_rewrite import read_tokenizer
from workers.engine.pruning.vocabulary import (
    VocabularyPlan,
    check_tokenizer,
    plan_vocabulary,
    prune_vocabulary,
    write_side_files,
)
from workers.engine.text.calibration import describe_batch
from workers.engine.text.text_ids import text_ids
from workers.engine.text.token_cache import TokenIds
from workers.engine.text.tokenizing import refuse_ids_without_row
from workers.stages.context import StageContext, part
from workers.stages.fields import PRUNING, of_text, told_at
from workers.stages.original import Original, prepare_machine, text_source

COUNTED_TOKENS = 20_000_000  # of a text that has more: which tokens are frequent is known by then
PROBED_TOKENS = 20_000  # of its beginning, which the new tokenizer has to write back
PROBES = (
    "It's 12345 o'clock, WE'LL go to x2y's  place...\n\n\tdef f(a_b):\n    return a+1 == 22;  \n ",
    "  leading, trailing  ",
    "Ünïcode e\u0301 ½ ٣ 你好世界 🙂🙂\u200d\r\n\x00\x7f\ufffd Ω≈ç√∫µ≤≥÷",
)
KEPT_FILE = "kept_tokens.json"
FIELDS = {**of_text("/pruning"), **PRUNING}


@part("prune")
@told_at(FIELDS)
def prune_tokens(context: StageContext, original: Original, options: VocabularyPruning) -> Pruned:
    """Vocabulary pruning: tokens go with their rows of embedding and head, and every block stays.

    Raises:
        InvalidInput: the text cannot be read, or too few tokens are to stay for every text to be written.
        UnsupportedModel: a tokenizer that cannot be rewritten.
    """
    began = time.monotonic()
    ids, text = _counted(context, original, options)
    plan = _plan(original, ids, options)
    done = prune_vocabulary(
        original.checkpoint,
        context.out / "checkpoint",
        plan=plan,
        probes=_probes(context, original, ids),
        progress=context.progress,
    )
    write_json(context.out / KEPT_FILE, {"kept": list(plan.kept)})
    return Pruned(
        kind=options.kind,
        dropped=[],
        kept=list(range(original.info.blocks)),
        vocabulary=KeptVocabulary(
            before=plan.before,
            after=len(plan.kept),
            rows_before=plan.rows,
            used=len(np.unique(ids)),
            covered=float(np.isin(ids, plan.kept).mean()),
        ),
        parameters_before=done.parameters_before,
        parameters_after=done.parameters_after,
        bytes_before=done.bytes_before,
        bytes_after=done.bytes_after,
        seconds=time.monotonic() - began,
        calibration=text,
        model=original.info,
    )


@told_at(FIELDS)
def check_tokens(context: StageContext, original: Original, options: VocabularyPruning) -> str:
    """Count the text, and rewrite the tokenizer for a look. Raises InvalidInput or UnsupportedModel."""
    read_tokenizer(original.path)  # refused before a text is read
    ids, text = _counted(context, original, options)
    plan = _plan(original, ids, options)
    with tempfile.TemporaryDirectory(dir=context.scratch) as place:
        write_side_files(original.path, Path(place), plan)
        write_json(Path(place) / "config.json", plan.config)
        check_tokenizer(original.path, Path(place), plan, _probes(context, original, ids))
    return f"{len(plan.kept):,} of {plan.before:,} tokens stay, by {len(ids):,} tokens of {text.description}"


def _plan(original: Original, ids: TokenIds, options: VocabularyPruning) -> VocabularyPlan:
    counts = np.bincount(ids, minlength=1).astype(np.int64)
    return plan_vocabulary(original.checkpoint, counts, tokens=options.tokens)


@part("count the text")
def _counted(context: StageContext, original: Original, options: VocabularyPruning) -> tuple[TokenIds, TextInfo]:
    """The text in the original's tokens, (tokens,), and what the report says of it."""
    source = text_source(context, original, prepare_machine(context))
    found = text_ids(
        options.text,
        tokenizer=lambda: source.tokenizer,
        fingerprint=source.tokenizer_fingerprint,
        roots=source.data_roots,
        uploads=source.uploads,
        cache=source.cache,
        measuring=False,
        wanted=COUNTED_TOKENS,
        progress=context.progress,
    )
    rows = int(as_config(original.checkpoint.config).vocab_size)
    refuse_ids_without_row(found.ids, source.tokenizer, rows, where=f"The text {found.description}")
    batch = torch.from_numpy(np.asarray(found.ids[: len(found.ids)]).copy())[None]
    text = describe_batch(
        batch,
        description=found.description,
        source=options.text.source,
        identity=found.identity,
        revision=found.revision,
    )
    return found.ids, text


def _probes(context: StageContext, original: Original, ids: TokenIds) -> list[str]:
    """Texts that show whether a tokenizer writes back as another does: some of all kinds, and the counted one's."""
    tokenizer = text_source(context, original, prepare_machine(context)).tokenizer
    begin = tokenizer.decode(ids[:PROBED_TOKENS].tolist(), clean_up_tokenization_spaces=False)
    return [*PROBES, str(begin)]
