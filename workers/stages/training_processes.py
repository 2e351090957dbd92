"""How many processes train together, where each computes, and what the report says of it.

That is a worker's setting and no part of the spec: what a job asks for must not depend on the machine that it runs on.
So the batch of the spec stays what it is, and is divided; where it cannot be, fewer processes train.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass, replace

from secateur.contract.errors import InvalidInput, StageFailed
from secateur.contract.options.training import TrainedRecovery
from secateur.contract.protocol import ErrorEvent
from workers.engine.recovery.rank_processes import RankProcesses
from workers.engine.recovery.ranks import RankDone, Ranks, most_ranks
from workers.engine.runtime import visible_gpus
from workers.stages.context import StageContext
from workers.stages.failure import describe_failure


@dataclass(frozen=True)
class TrainingProcesses:
    """The processes of one training."""

    count: int
    gpus: tuple[str, ...]  # one for each process, as CUDA_VISIBLE_DEVICES names it; none on a CPU
    notes: tuple[str, ...]  # for the report

    def started(
        self, context: StageContext, recover: Callable[[StageContext, Ranks], object]
    ) -> AbstractContextManager[RankProcesses | None]:
        """Those beside this one, which run `recover` when they are called; the context's end is theirs.

        To be entered before anything is computed: they are forks of this process.
        """
        if self.count == 1:
            return nullcontext()

        def assist(rank: int, ready: Callable[[], None]) -> None:
            runtime = context.stage.runtime
            if self.gpus:
                os.environ["CUDA_VISIBLE_DEVICES"] = self.gpus[rank]
                runtime = runtime.model_copy(update={"device": "cuda"})
            stage = context.stage.model_copy(update={"runtime": runtime})
            with suppress(RankDone):
                recover(replace(context, stage=stage, emit=lambda event: None), Ranks(rank, self.count, ready=ready))

        def give_up(failure: StageFailed) -> None:
            context.emit(ErrorEvent(problem=failure.to_problem()))
            os._exit(1)

        return closing(RankProcesses(self.count, assist, describe=describe_failure, on_stuck=give_up))


def refuse_shard(options: TrainedRecovery, processes: int) -> None:
    """Check that at least two of so many processes can train, where the model is to be split among them.

    Raises:
        InvalidInput: they cannot.
    """
    pieces = {"batch_size": options.batch_size, "micro_batch_size": options.micro_batch_size}
    if options.shard and most_ranks(processes, **pieces) == 1:
        raise InvalidInput.field(
            "/recovery/shard",
            "This worker would train in one process, among which the model cannot be split.",
            value=True,
            expected="a worker whose SECATEUR_TRAINING_PROCESSES is 2 or more, with a GPU for each, and a batch of as "
            "many micro-batches; or no `shard`",
        )


def plan_processes(context: StageContext) -> TrainingProcesses:
    """As many as the worker's setting, its GPUs and the batch of the spec allow. Starts no CUDA in this process.

    Raises:
        InvalidInput: the model is to be split, and there is one process.
    """
    runtime, options = context.stage.runtime, context.stage.spec.recovery
    wanted = runtime.training_processes
    if not isinstance(options, TrainedRecovery):
        return TrainingProcesses(1, (), ())
    if wanted == 1:
        refuse_shard(options, 1)
        return TrainingProcesses(1, (), ())
    gpus, notes = visible_gpus(runtime.device), []
    if wanted == "auto":
        possible = len(gpus) if runtime.device in {"auto", "cuda"} and gpus else 1  # `cuda:N` names a single one
    elif gpus and wanted > len(gpus):
        possible = len(gpus)
        notes.append(
            f"The worker's SECATEUR_TRAINING_PROCESSES is {wanted}, but it has {possible} "
            f"{'GPU' if possible == 1 else 'GPUs'}; no more processes trained."
        )
    else:
        possible = wanted
    refuse_shard(options, possible)
    count = most_ranks(possible, batch_size=options.batch_size, micro_batch_size=options.micro_batch_size)
    if count < possible:
        notes.append(
            f"The training ran in {count} of {possible} possible processes: a batch of {options.batch_size} samples, "
            f"{options.micro_batch_size} at a time, cannot be divided evenly among more."
        )
    if count > 1:
        where = "each on a GPU of its own" if gpus else "on the CPU"
        where += ", each with a part of the model" if options.shard else ""
        notes.append(f"The training ran in {count} processes side by side, {where}.")
    return TrainingProcesses(count, tuple(gpus[:count]), tuple(notes))
