"""The answer stage: the models of a finished job answer one question, one after the other.

They are not loaded together and do not take turns: each has the device and the memory to itself, as it would have
where it is deployed. The first piece that is told of each, which is empty, says that it is its turn.
"""

from __future__ import annotations

from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.models.positions import positions_of
from secateur.contract.questions import MOST_SECONDS, VARIANTS, Answered, Question, VariantAnswer
from secateur.contract.stage_kinds import PRUNE, QUANTISE, RECOVER
from workers.engine.architectures.config import as_config
from workers.engine.benchmarks.answering import answer
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import free_memory, load_model
from workers.engine.runtime import Machine, environment
from workers.engine.text.prompts import Prompt, encoded_prompts
from workers.engine.text.tokenizer_loading import load_tokenizer
from workers.stages.benchmark_variants import unpacked
from workers.stages.context import StageContext
from workers.stages.fields import MODEL, told_in
from workers.stages.original import open_original, prepare_machine

RECOVERED = "recovered"
FIELDS = {**MODEL, "text": "/prompt"}


@told_in("/prompt", FIELDS)
def run(context: StageContext) -> Answered:
    """Let every variant that is asked answer.

    Raises:
        InvalidInput: a tokenizer cannot take the prompt, or it leaves a model no room for an answer.
        StageFailed: the job has no such model, or its logits are not finite.
    """
    question = context.stage.question
    if question is None:
        raise StageFailed("The answer stage was given no question.")
    machine = prepare_machine(context)
    asked = question.variants or tuple(name for name in VARIANTS if name != RECOVERED or context.has(RECOVER))
    answers = []
    for name in asked:
        context.text(name, "", 0)
        answers.append(_answer(context, name, question, machine, seconds=MOST_SECONDS / len(asked)))
        free_memory()
    return Answered(answers=answers, environment=environment(machine))


def _answer(context: StageContext, name: str, question: Question, machine: Machine, *, seconds: float) -> VariantAnswer:
    checkpoint, timed = _opened(context, name)
    config = as_config(checkpoint.config)
    tokenizer = load_tokenizer(checkpoint.path)
    positions = positions_of(checkpoint.config)
    room = None if positions is None else positions - question.max_tokens
    prompts = encoded_prompts(
        tokenizer, [Prompt.of(question.prompt)], chat=question.chat, rows=int(config.vocab_size), room=room
    )
    if prompts.fault:
        context.log(f"The chat template of the {name} model cannot be used: {prompts.fault}", level="warning")
    (ids,) = prompts.ids
    if not len(ids) or (room is not None and len(ids) > room):
        raise InvalidInput.field(
            "/prompt",
            f"The prompt has {len(ids):,} tokens, and with {question.max_tokens:,} new ones the {name} model must hold "
            f"them all: it holds {positions or 0:,}.",
            value=len(ids),
            expected="a shorter prompt, or fewer `max_tokens`",
        )
    model = load_model(checkpoint, device=machine.device, dtype=machine.dtype)
    found = answer(
        model,
        tokenizer,
        ids,
        most=question.max_tokens,
        temperature=question.temperature,
        seed=context.stage.spec.seed,
        seconds=seconds,
        tell=lambda text, tokens: context.text(name, text, tokens),
    )
    figures = vars(found) if timed else {**vars(found), "first_token_seconds": None, "tokens_per_second": None}
    told = VariantAnswer(variant=name, prompt_tokens=len(ids), chat=prompts.chat, **figures)
    context.metrics(**told.model_dump(mode="json", exclude={"text"}))
    return told


def _opened(context: StageContext, name: str) -> tuple[Checkpoint, bool]:
    """The model of this name, and whether it is as fast here as where it is used: a GGUF file, unpacked, is not."""
    if name == "original":
        return open_original(context).checkpoint, True
    if name in VARIANTS:
        kind = RECOVER if name == RECOVERED else PRUNE
        return Checkpoint.open(context.input(kind) / "checkpoint"), True
    final = RECOVERED if context.has(RECOVER) else "pruned"
    made = context.read(QUANTISE).variants if context.has(QUANTISE) else []
    path = next((context.input(QUANTISE) / one.path for one in made if name == f"{final}-{one.name}"), None)
    if path is None:
        raise StageFailed(f"The job has no {name} model.")
    return (unpacked(context, path, name), False) if path.is_file() else (Checkpoint.open(path), True)
