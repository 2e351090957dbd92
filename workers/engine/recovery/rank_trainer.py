"""The training of one rank of several: the same steps as in one process, with each batch divided among the ranks.

The loss of a step is what it is in one process. Next-token losses are summed over tokens and divided by the number of
tokens of the whole batch, over all ranks. Losses that are means over a micro-batch, such as that of distillation, are
averaged over the micro-batches of all ranks. Gradients differ from those of one process by the rounding of sums alone.

What one rank finds out (a loss that is not finite, that time is up) becomes known to all in the same step, so none is
left waiting for another. Like `trainer.py` it overrides private methods of the Trainer of the pinned version.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers.trainer_utils import EvalLoopOutput

from workers.engine.recovery import snapshots
from workers.engine.recovery.rank_batches import RankBatches, WithBlanks, held_batches
from workers.engine.recovery.ranks import Ranks, of_first, total, wait_for_all
from workers.engine.recovery.trainer import REAL_TOKENS, RecoveryTrainer

_IGNORED = -100  # a label on which no loss is taken


class RankTrainer(RecoveryTrainer):
    """A RecoveryTrainer that is one of several."""

    def among(self, ranks: Ranks) -> None:
        """Say which of them this is."""
        self._ranks = ranks
        self._losses = torch.zeros((), device=self.args.device)  # of this step so far
        self._weight = 1.0  # of a micro-batch whose loss is a mean

    def tokens(self) -> int:
        """Of all ranks, which all have to ask."""
        return int(total(self._tokens.clone()))

    def agreed(self, flag: bool) -> bool:
        return bool(of_first(int(flag), self.args.device))

    def get_train_dataloader(self) -> DataLoader[Any]:
        data: Any = self.train_dataset
        args = self.args
        batches = RankBatches(
            data,
            batch_size=args.per_device_train_batch_size * args.gradient_accumulation_steps * self._ranks.count,
            micro_batch_size=args.per_device_train_batch_size,
            rank=self._ranks.index,
            ranks=self._ranks.count,
            seed=args.seed,
        )
        return self._loader(WithBlanks(data), batches)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        data: Any = self.eval_dataset
        size = self.args.per_device_eval_batch_size
        ranks = self._ranks
        return self._loader(data, held_batches(len(data), micro_batch_size=size, rank=ranks.index, ranks=ranks.count))

    def _loader(self, data: Dataset[Any], batches: Any) -> DataLoader[Any]:
        return DataLoader(
            data, batch_sampler=batches, collate_fn=self.data_collator, pin_memory=self.args.dataloader_pin_memory
        )

    def _run_epoch(self, *args: Any, **arguments: Any) -> None:
        arguments["train_dataloader"].batch_sampler.set_epoch(arguments["epoch"])
        super()._run_epoch(*args, **arguments)  # type: ignore[no-untyped-call]  # no annotations upstream

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        batches, items = super().get_batch_samples(map(self._blanked, epoch_iterator), num_batches, device)
        real = torch.tensor(sum(not _is_blank(batch) for batch in batches), device=device)
        self._weight = self._ranks.count * len(batches) / int(total(real))  # the Trainer divides by both
        return batches, items

    def _blanked(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if _is_blank(batch) and not self._takes_means:
            batch["labels"] = torch.full_like(batch["labels"], _IGNORED)
        return batch

    @property
    def _takes_means(self) -> bool:
        """Whether the loss is a mean over the micro-batch, and not a sum over the tokens of the whole batch."""
        return self._own_loss is not None or not self.model_accepts_loss_kwargs

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        blank = _is_blank(inputs)
        found: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not model.training or not self._takes_means:
            return found
        weight = 0.0 if blank else self._weight
        return (found[0] * weight, found[1]) if return_outputs else found * weight

    def _check_loss(self, loss: Tensor) -> None:
        self._losses += loss

    def _clip_grad_norm(self, model: Any) -> Any:
        losses = total(self._losses.clone())
        self._losses.zero_()
        super()._check_loss(losses)
        return super()._clip_grad_norm(model)  # the gradients, and so their norm, are the same in every rank

    def evaluation_loop(self, dataloader: DataLoader[Any], *_: Any, **__: Any) -> EvalLoopOutput:
        """The mean over samples of their micro-batches' losses, as one process has it."""
        self.model.eval()
        found = torch.zeros(2, dtype=torch.float64, device=self.args.device)  # losses, samples
        with torch.no_grad():
            for batch in dataloader:
                inputs = self._prepare_inputs(batch)
                size = len(inputs["input_ids"])
                found += torch.stack([self.compute_loss(self.model, inputs).double() * size, found.new_tensor(size)])
        losses, samples = total(found).tolist()
        return EvalLoopOutput(None, None, {"eval_loss": losses / samples}, int(samples))  # type: ignore[arg-type]  # as upstream

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """The first rank writes the snapshot, each of the others the states of its generators into it."""
        tokens, part = self.tokens(), snapshots.part_of(self._folder, self.state.global_step)
        if self._ranks.first:
            snapshots.begin_snapshot(part)
        wait_for_all(self.args.device)
        if self._ranks.first:
            self._write_snapshot(part, tokens)
        else:
            snapshots.save_rank_random(part, self._ranks.index)
        wait_for_all(self.args.device)
        if self._ranks.first:
            self._finish_snapshot(part)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if not self._ranks.first:
            self._tokens.zero_()  # the snapshot's are those of all

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if self._ranks.first or checkpoint is None:
            super()._load_rng_state(checkpoint)
        else:
            snapshots.load_rank_random(Path(checkpoint), self._ranks.index)


def _is_blank(batch: dict[str, Any]) -> bool:
    return not batch[REAL_TOKENS].any()
