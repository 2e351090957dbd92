"""Instruction data: from Alpaca's three fields or chat messages to samples, with or without packing.

The prompt of Alpaca's fields is the one that Stanford Alpaca trains with (Taori et al. 2023), which the paper's recipe
uses; chats follow the model's own chat template. Packed examples do not see each other: each has positions from 0
on, from which transformers builds a mask per example (with no attention mask and no cache), and no label is predicted
across a border.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from secateur.contract.datasets import DatasetKind
from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.options.recovery import LoraRecovery
from secateur.contract.options.texts import Bos
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.results import TextInfo
from workers.engine.progress import Progress
from workers.engine.recovery.chats import Chats
from workers.engine.recovery.example import Example, check_row
from workers.engine.recovery.job import RecoveryJob
from workers.engine.recovery.objective import IGNORED
from workers.engine.recovery.sequences import LABELS, REAL_TOKENS, Sequences
from workers.engine.recovery.training_text import in_time, most_samples, pinned, training_samples
from workers.engine.text.calibration import describe_batch
from workers.engine.text.chat_templates import ChatRenderer
from workers.engine.text.rows import Rows, RowsText, rows_of
from workers.engine.text.text_source import TextSource
from workers.engine.text.token_cache import kept_tensors
from workers.engine.text.tokenizing import BoundedEncoder, refuse_ids_without_row

COUNT = "examples"  # the name under which their number is kept beside the samples
TOLD_EXAMPLES = 64  # between two words of how many are read
OPEN_SAMPLES = 32  # samples that an example may still go into
_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n"
    "### Response:\n"
)
_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


def training_data(job: RecoveryJob, options: TrainedRecovery) -> tuple[Sequences, TextInfo]:
    """What a recovery trains on, in the format that the options say.

    Where no loss is to be taken on prompts, the column `labels` says which tokens it is taken on.

    Raises:
        InvalidInput: the text cannot be read, or is not in that format.
    """
    if options.format == "text":
        ids, info, answers = training_samples(job, options)
        if int(job.texts.config.vocab_size) > job.vocabulary:  # a target may write a token of its padding, if hardly
            known = (ids < job.vocabulary).all(-1)
            if not known.any():
                raise StageFailed(
                    "The target wrote tokens of its padding into every sample; its weights may be broken."
                )
            ids, answers = ids[known], None if answers is None else answers[known]
        if answers is None or options.mask_prompt is False:
            return Sequences(ids), info
        return Sequences(ids, {LABELS: ids.where(answers, IGNORED)}), info
    text = options.text
    if not isinstance(text, RowsText):
        raise InvalidInput.field(
            "format",
            f'Text whose source is "{options.text.source}" is plain text, not "{options.format}".',
            value=options.format,
            expected='"text", or a file or a data set of examples',
        )
    source = rows_of(pinned(job, text), job.texts)
    bound = most_samples(options)

    def read(most: int | None, progress: Progress) -> dict[str, Tensor]:
        key = {
            **source.key,
            "tokenizer": job.texts.tokenizer_fingerprint,
            "bos": options.bos,
            "examples": [options.format, most, options.tokens, bool(options.mask_prompt), bound],
            "arranged": _arrangement(options),
        }
        return kept_tensors(job.texts.cache, key, lambda: _arranged(job, options, text, source, most, progress))

    found = in_time(job, read, options.samples, sample={"examples": 1})
    count = int(found.pop(COUNT))
    data = Sequences(found.pop("ids"), found)
    info = describe_batch(
        data.ids,
        description=f"{source.description}, {count} examples",
        source=options.text.source,
        identity=source.identity,
        revision=source.revision,
    )
    return data, info


def _arranged(
    job: RecoveryJob, options: TrainedRecovery, text: RowsText, source: Rows, most: int | None, progress: Progress
) -> dict[str, Tensor]:
    """The samples as tensors, and how many examples are in them: `most`, or all that the training can take."""
    tokenizer, arrangement = job.texts.tokenizer, _arrangement(options)
    rows, answers = int(job.texts.config.vocab_size), 0
    examples: list[Example] = []
    wanted = most_samples(options.model_copy(update={"samples": None}))
    tokens = read = 0
    with ExitStack() as stack:
        encode = encoder_of(job.texts, text, format=options.format, bos=options.bos, stack=stack)
        for number, row in source.read():
            read += len(str(row))
            example = _encoded(encode, row, number)
            where = f"Row {number} of the training data"
            refuse_ids_without_row(example.ids, tokenizer, rows, where=where)
            room = None if arrangement == JOINED else options.tokens
            examples.append(Example(example.ids[:room], example.answer[:room]))
            tokens += len(examples[-1].ids)
            answers += any(example.answer)
            if most is not None and len(examples) >= most:
                break
            # packed, so many samples are full for certain
            full = len(examples) if arrangement == PADDED else tokens // options.tokens
            if wanted is not None and full >= wanted:
                break
            if len(examples) % TOLD_EXAMPLES == 0:
                there = max(1, most or 0, len(examples) * source.size // read)  # about
                progress(len(examples), max(there, len(examples) + 1), "examples")
    source.verify()
    if not examples:
        raise InvalidInput.field("text", "The training data hold no examples.", expected="at least one")
    data = _ARRANGE[arrangement](
        examples, tokens=options.tokens, pad=padding(tokenizer, rows), mask_prompt=bool(options.mask_prompt)
    )
    if LABELS in data.columns and not bool((data.columns[LABELS] != IGNORED).any()):
        raise _nothing_to_learn(options, any_answer=answers > 0, roles=getattr(encode, "roles", ()))
    return {"ids": data.ids, **data.columns, COUNT: torch.tensor(len(examples))}


def _arrangement(options: TrainedRecovery) -> str:
    """How examples become samples. Each sees itself alone where adapters are trained on them."""
    if not isinstance(options, LoraRecovery):
        return JOINED
    return PACKED if options.packing else PADDED


def padding(tokenizer: PreTrainedTokenizerBase, rows: int) -> int:
    """The id to pad with: any that the embedding has a row for serves, since nothing looks at padding."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((token for token in ids if isinstance(token, int) and 0 <= token < rows), 0)


def encoder_of(
    texts: TextSource, text: RowsText, *, format: str, bos: Bos, stack: ExitStack
) -> Callable[[Any], Example]:
    """What makes an example of a row of `text` for the model of `texts`, until the stack is closed.

    Args:
        format: `alpaca` or `chat`.
        bos: where a beginning-of-text token stands.

    Raises:
        InvalidInput: the model's tokenizer or its chat template cannot be used.
    """
    start = texts.beginning(text, bos)
    encoder = stack.enter_context(BoundedEncoder(texts.tokenizer))
    if format == "alpaca":
        return partial(alpaca, encoder, first=start.token if start.where != "none" else None)
    renderer = stack.enter_context(ChatRenderer(encoder.tokenizer))
    return Chats(encoder, renderer, bos=start.token, asked=bos)


def _nothing_to_learn(options: TrainedRecovery, *, any_answer: bool, roles: Collection[str]) -> InvalidInput:
    if not any_answer:
        named = f": the roles are {', '.join(sorted(roles)[:8])}" if roles else ""
        return InvalidInput.field(
            "text",
            f"No row of the training data has an answer to learn{named}.",
            value=sorted(roles)[:8],
            expected="messages whose role is assistant" if roles else "rows with an `output`",
        )
    return InvalidInput.field(
        "tokens",
        f"No answer begins within {options.tokens} tokens, so there is nothing to train on.",
        value=options.tokens,
        expected="longer samples, or `mask_prompt`: false",
    )


def alpaca(encoder: BoundedEncoder, row: Any, *, first: int | None = None) -> Example:
    """`instruction`, `input` (may be empty or absent) and `output`; `first` is the beginning-of-text token, if any."""
    check_row(row, DatasetKind.ALPACA)
    prompt = (_WITH_INPUT if row.get("input") else _WITHOUT_INPUT).format(
        instruction=row["instruction"], input=row.get("input")
    )
    end = encoder.tokenizer.eos_token_id
    asked: list[int] = ([] if first is None else [first]) + encoder.ids(prompt).tolist()
    answered: list[int] = encoder.ids(row["output"]).tolist() + ([end] if isinstance(end, int) else [])
    return Example(asked + answered, [False] * len(asked) + [True] * len(answered))


def pack(examples: list[Example], *, tokens: int, pad: int, mask_prompt: bool) -> Sequences:
    """Several examples to a sample: each goes into the first open sample that has room."""
    full: list[list[Example]] = []
    open_samples: list[tuple[int, list[Example]]] = []  # room left, examples
    for example in examples:
        length = len(example.ids)
        place = next((index for index, (room, _) in enumerate(open_samples) if room >= length), None)
        if place is None:
            open_samples.append((tokens - length, [example]))
        else:
            room, held = open_samples[place]
            open_samples[place] = (room - length, [*held, example])
        if len(open_samples) > OPEN_SAMPLES:
            fullest = min(range(len(open_samples)), key=lambda index: open_samples[index][0])
            full.append(open_samples.pop(fullest)[1])
    full += [held for _, held in open_samples]
    shape = (len(full), tokens)
    ids, labels = torch.full(shape, pad, dtype=torch.long), torch.full(shape, IGNORED, dtype=torch.long)
    positions, real = torch.zeros(shape, dtype=torch.long), torch.zeros(len(full), dtype=torch.long)
    for row, held in enumerate(full):
        at = 0
        for example in held:
            span = slice(at, at + len(example.ids))
            ids[row, span] = torch.tensor(example.ids)
            labels[row, span] = _labels(example, mask_prompt=mask_prompt)
            positions[row, span] = torch.arange(len(example.ids))
            at += len(example.ids)
        positions[row, at:] = torch.arange(tokens - at)  # padding is a last example that nothing is learned from
        real[row] = at
    return Sequences(ids, {LABELS: labels, "position_ids": positions, REAL_TOKENS: real})


def pad_each(examples: list[Example], *, tokens: int, pad: int, mask_prompt: bool) -> Sequences:
    """One example to a sample, padded on the right."""
    shape = (len(examples), tokens)
    ids, labels = torch.full(shape, pad, dtype=torch.long), torch.full(shape, IGNORED, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.ids)
        ids[row, :length] = torch.tensor(example.ids)
        labels[row, :length] = _labels(example, mask_prompt=mask_prompt)
        mask[row, :length] = 1
    return Sequences(ids, {LABELS: labels, "attention_mask": mask, REAL_TOKENS: mask.sum(1)})


def join(examples: list[Example], *, tokens: int, pad: int, mask_prompt: bool) -> Sequences:
    """Examples one after the other, as documents stand in a text, cut into samples; nothing is padded.

    Raises:
        InvalidInput: they are too few for one sample.
    """
    ids = torch.tensor([token for example in examples for token in example.ids])
    count = len(ids) // tokens
    if not count:
        raise InvalidInput.field(
            "batch",
            f"The training data have {len(ids):,} tokens, and one sample has {tokens:,}.",
            value=len(ids),
            expected="more rows, or shorter samples",
        )
    answers = torch.tensor([answer for example in examples for answer in example.answer])
    columns = {LABELS: ids.where(answers, IGNORED)} if mask_prompt else {}
    cut = {name: values[: count * tokens].view(count, tokens) for name, values in {"ids": ids, **columns}.items()}
    return Sequences(cut.pop("ids"), cut)


PACKED, PADDED, JOINED = "packed", "padded", "joined"
_ARRANGE = {PACKED: pack, PADDED: pad_each, JOINED: join}


def _labels(example: Example, *, mask_prompt: bool) -> Tensor:
    labels = torch.tensor(example.ids)
    labels[0] = IGNORED  # it would be predicted from the example before
    if mask_prompt:
        labels[~torch.tensor(example.answer)] = IGNORED
    return labels


def _encoded(encode: Callable[[Any], Example], row: Any, number: int) -> Example:
    try:
        return encode(row)
    except ValueError as error:
        detail = f"Row {number} of the training data cannot be used: {error}"
        expected = "rows in the format that was named"
        raise InvalidInput.field("text", detail, value=number, expected=expected) from error
