"""The answer stage: the models of a finished job answer one question, one after the other.

They are not loaded together and do not take turns: each has the device and the memory to itself, as it would have
where it is deployed. The first piece that is told of each, which is empty, says that it is its turn.
"""

from __future__ import annotations

from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.models.positions import positions_of
from secateur.contract.questions import MOST_SECONDS, VARIANTS, Answered, Question, VariantAnswer, VariantName
from secateur.contract.stage_kinds import PRUNE, RECOVER
from workers.engine.architectures.config import as_config
from workers.engine.benchmarks.answering import answer
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.model.loading import free_memory, load_model
from workers.engine.runtime import Machine, environment
from workers.engine.text.prompts import Prompt, encoded_prompts
from workers.engine.text.tokenizer_loading import load_tokenizer
from workers.stages.context import StageContext
from workers.stages.fields import MODEL, told_in
from workers.stages.original import open_original, prepare_machine

RECOVERED: VariantName = "recovered"
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


def _answer(
    context: StageContext, name: VariantName, question: Question, machine: Machine, *, seconds: float
) -> VariantAnswer:
    checkpoint = _opened(context, name)
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
    told = VariantAnswer(variant=name, prompt_tokens=len(ids), chat=prompts.chat, **vars(found))
    context.metrics(**told.model_dump(mode="json", exclude={"text"}))
    return told


def _opened(context: StageContext, name: VariantName) -> Checkpoint:
    if name == "original":
        return open_original(context).checkpoint
    kind = RECOVER if name == RECOVERED else PRUNE
    return Checkpoint.open(context.input(kind) / "checkpoint")
