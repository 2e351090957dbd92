"""The recover stage: quality back, mostly by light retraining. Writes `checkpoint/` and, of adapters, `adapter/`."""

from __future__ import annotations

import time
from uuid import UUID

from secateur.contract.options.method import Method
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.recovery import DistillRecovery
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.results import LossPoint, Recovered
from secateur.contract.stage_kinds import PRUNE, RECOVER, SCORE
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.recovery.job import RecoveryJob, RecoveryOutcome, Teacher, check_optimizer, run_recovery
from workers.engine.recovery.ranks import Ranks
from workers.engine.runtime import environment
from workers.reporting import model_card
from workers.stages.block_model import must_stream
from workers.stages.context import StageContext, part
from workers.stages.fields import MODEL, PRUNING, of_recovery, told_at, told_in
from workers.stages.original import open_original, open_target, prepare_machine, text_source
from workers.stages.recovered_gguf import write_as_it_came
from workers.stages.training_processes import plan_processes


@told_in("/recovery", {**MODEL, **PRUNING})
def run(context: StageContext) -> Recovered:
    """Recover the pruned model as the spec asks.

    Raises:
        InvalidInput: the training text is too short or cannot be read.
        StageFailed: the training broke.
    """
    with told_at(of_recovery(context.stage.spec.recovery)):
        return _recovered(context)


def _recovered(context: StageContext) -> Recovered:
    began = time.monotonic()
    options = context.stage.spec.recovery
    if isinstance(options, TrainedRecovery):
        check_optimizer(options)
    processes = plan_processes(context)
    with processes.started(context, _recover) as others:
        job, outcome = _recover(context, Ranks(count=processes.count, others=others))
    training = outcome.training
    warm = _warm_start(options)
    begun = [f"The training began with the model that job {warm} recovered."] if warm is not None else []
    target = context.known_target()
    learnt = [_taught(target.id, options)] if target is not None else []
    before = max(0.0, training.seconds - (time.monotonic() - began)) if training else 0.0  # of killed attempts
    file, said = write_as_it_came(context, context.out / "checkpoint", kept=context.read(PRUNE).kept)
    recovered = Recovered(
        kind=options.kind,
        options=options.model_dump(mode="json"),
        text=outcome.text,
        trainable_parameters=outcome.trainable_parameters,
        steps=training.steps if training else 0,
        tokens=training.tokens if training else 0,
        curve=training.curve if training else [],
        schedule=outcome.schedule,
        resumed_from=training.resumed_from if training else [],
        healed=outcome.healed,
        seconds=time.monotonic() - began + before,
        environment=environment(job.machine),
        gguf=file,
        notes=[*begun, *learnt, *outcome.notes, *processes.notes, *said],
    )
    pruned = context.read(PRUNE)
    scores = context.read(SCORE) if context.has(SCORE) else None
    model_card.write(context.out / "checkpoint", pruned=pruned, scores=scores, recovered=recovered)
    return recovered


def _taught(target: str, options: Method) -> str:
    """What a draft has of the model that it is for."""
    written = "Text that a model writes itself was written by the target model"
    if isinstance(options, DistillRecovery):
        return f"{written}, {target}, and the predictions that were learnt are the target's."
    return f"{written}, {target}."


def _warm_start(options: Method) -> UUID | None:
    """The earlier job whose recovered model is given to this stage, to begin with."""
    return options.warm_start if isinstance(options, TrainedRecovery) else None


@part("recover")
def _recover(context: StageContext, ranks: Ranks) -> tuple[RecoveryJob, RecoveryOutcome]:
    """The recovery itself, in each of the processes that train it together."""
    machine = prepare_machine(context)
    pruned = context.read(PRUNE)
    original = open_original(context)
    options = context.stage.spec.recovery

    def on_point(point: LossPoint) -> None:
        context.metrics(**point.model_dump(exclude_none=True))

    target = open_target(context) if context.stage.spec.target_model is not None else None
    job = RecoveryJob(
        pruned=Checkpoint.open(context.input(PRUNE if _warm_start(options) is None else RECOVER) / "checkpoint"),
        original=original.checkpoint,
        kept=tuple(pruned.kept),
        out=context.out,
        scratch=context.scratch,
        options=options,
        machine=machine,
        texts=text_source(context, target or original, machine),
        ranks=ranks,
        whole_blocks=isinstance(context.stage.spec.pruning, DepthPruning),
        streamed=must_stream(machine, original.info.parameters),
        teacher=None if target is None else Teacher(target.checkpoint, must_stream(machine, target.info.parameters)),
        progress=context.progress,
        on_point=on_point,
        log=context.log,
    )
    return job, run_recovery(job)
