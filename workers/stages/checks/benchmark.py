"""Check of what is measured: lengths that the model holds, a compiler where one is asked for, tasks with their data."""

from __future__ import annotations

from secateur.contract.errors import InvalidInput
from secateur.contract.gate_needs import accuracy_of_one_item
from secateur.contract.models.positions import fitting_samples, positions_of, too_long
from secateur.contract.models.quantised import quantised_by
from secateur.report.text import plural
from workers.engine.benchmarks.compiling import refuse_uncompilable
from workers.engine.benchmarks.tasks import load_tasks, try_requests
from workers.engine.checkpoints.computable import why_not_computable
from workers.engine.text.tokenizing import BoundedEncoder, refuse_ids_without_row
from workers.stages.benchmark_engines import refuse_engines
from workers.stages.checks.subject import Subject
from workers.stages.fields import told_at
from workers.stages.measurable import measured_parts, refuse_unmeasurable


def kernels(subject: Subject) -> str | None:
    """Raises UnsupportedModel."""
    method = quantised_by(subject.config)
    if method is None:
        return None
    refuse_unmeasurable(subject.spec.benchmark, subject.config)
    return f"what {method} needs is here" if measured_parts(subject.spec.benchmark) else None


def latency(subject: Subject) -> str | None:
    """Raises InvalidInput."""
    options = subject.spec.benchmark.latency
    if options is None:
        return None
    _refuse_too_long(subject, "/benchmark/latency")
    if options.compile:
        refuse_uncompilable(str(subject.machine.device))
    by = refuse_engines(subject.context, options)
    cells = len(set(options.batch_sizes)) * len(set(options.output_tokens))
    return f"{plural(cells, 'combination')} of batch size and length, by {by}"


def samples(subject: Subject) -> str | None:
    """The prompts and what is to follow them. Raises InvalidInput."""
    asked = subject.spec.benchmark.samples
    if asked is None:
        return None
    _refuse_too_long(subject, "/benchmark/samples")
    tokenizer, rows = subject.texts.tokenizer, int(subject.texts.config.vocab_size)
    positions = positions_of(subject.texts.config.to_dict())
    for index, prompt in enumerate(asked.prompts):
        pointer = f"/benchmark/samples/prompts/{index}"
        with told_at({"text": pointer}):
            with BoundedEncoder(tokenizer) as encoder:
                ids = encoder.ids(prompt, special=True)
            refuse_ids_without_row(ids, tokenizer, rows, where="The prompt")
        if positions is not None and len(ids) + (new := fitting_samples(asked, positions).max_new_tokens) > positions:
            raise InvalidInput.field(
                pointer,
                f"The prompt's {len(ids):,} tokens and {new:,} new ones are more than the {positions:,} of the model.",
                value=prompt,
                expected=f"at most {positions - new:,} tokens, or a lower `max_new_tokens`",
            )
    return f"{len(asked.prompts)} prompts"


def _refuse_too_long(subject: Subject, pointer: str) -> None:
    fields = too_long(subject.spec, positions_of(subject.texts.config.to_dict()))
    if fields := [field for field in fields if field.pointer.startswith(pointer)]:
        raise InvalidInput(fields[0].detail, errors=fields)


def tasks(subject: Subject) -> str | None:
    """Raises InvalidInput or Unavailable."""
    options = subject.spec.benchmark.tasks
    if options is None:
        return None
    if why_not_computable(subject.config) is not None:
        return None  # told of the kernels
    found = load_tasks(options, roots=subject.context.stage.runtime.data_roots)
    positions = positions_of(subject.texts.config.to_dict())
    with BoundedEncoder(subject.texts.tokenizer) as encoder:
        try_requests(found, options, positions=positions, tokens_of=lambda text: len(encoder.ids(text)))
    items = {(name, request.doc_id) for name, task in found.items() for request in task.instances}
    unpassed = accuracy_of_one_item(subject.spec) if len(items) == 1 else None
    if unpassed is not None:
        raise InvalidInput(unpassed.detail, errors=[unpassed])
    return ", ".join(found)
