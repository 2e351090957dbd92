"""LoRA: low-rank adapters on every projection of the blocks, trained on a text and merged into the weights.

The paper's recovery (Shortened LLaMA, arXiv 2402.02834): rank 8, alpha 16, dropout 0.05, on all projections (Hu et
al. 2021, LoRA, arXiv 2106.09685), by peft. Adapters are fp32 whatever the base is, since fp16 training of Llama-2
gave NaN in LLM-Pruner. Merging reads each weight from disk, adds the adapter's product in fp32 and rounds once to
the dtype on disk, so nothing is lost by the dtype that the training computed in.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from secateur.contract.errors import UnsupportedModel
from secateur.contract.options.recovery import DistillRecovery, LoraRecovery
from secateur.whole_files import whole_folder
from workers.engine.architectures.config import as_config
from workers.engine.architectures.discovery import skeleton
from workers.engine.architectures.registry import architecture_of
from workers.engine.blame import blamed_on
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.checkpoints.names_on_disk import names_on_disk
from workers.engine.checkpoints.patch import Change, patch_checkpoint, together
from workers.engine.progress import Progress, no_progress
from workers.engine.recovery.healing import healed_start
from workers.engine.recovery.instruction_data import training_data
from workers.engine.recovery.job import (
    RecoveryJob,
    RecoveryOutcome,
    run_training,
    schedule_of,
    settings_of,
    trainable_parameters,
    training_notes,
)
from workers.engine.recovery.quick_adapters import quick_adapters
from workers.engine.runtime import seed_everything

ADAPTER_FILE = "adapter_model.safetensors"
WITHOUT_ADAPTERS = "a recovery that trains the weights themselves, such as continued, or healing alone"


def projections(model: PreTrainedModel) -> list[str]:
    """Names of all linear maps inside the blocks, fused ones included, found by structure.

    Of mixtures of experts only attention is adapted: transformers keeps the experts as stacked parameters and not as
    linear maps, and peft takes the names of a dense MLP beside them for theirs.

    Raises:
        UnsupportedModel: the blocks have none.
    """
    architecture = architecture_of(model.config)
    prefix = architecture.blocks_prefix
    found = [
        f"{prefix}.{name}"
        for name, module in model.get_submodule(prefix).named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and ("moe" not in architecture.quirks or f".{architecture.attention}." in f".{name}.")
    ]
    if not found:
        raise UnsupportedModel(
            f"The blocks of a {model.config.model_type} model have no linear maps that adapters could be put on."
        )
    return found


def notes_on(model: PreTrainedModel) -> list[str]:
    """What the report should say of where adapters are, in words."""
    if "moe" in architecture_of(model.config).quirks:
        return ["The model is a mixture of experts: adapters are on its attention only, the experts were not trained."]
    return []


def add_adapters(model: PreTrainedModel, options: LoraRecovery | DistillRecovery, *, seed: int) -> PeftModel:
    """Put a fresh adapter on every projection; only the adapters require a gradient from then on.

    Raises:
        UnsupportedModel: it has no projections, or peft takes none on a model of its kind.
    """
    targets = projections(model)
    seed_everything(seed)  # the adapters' random half is drawn here
    config = LoraConfig(
        r=options.rank,
        lora_alpha=cast(int, options.alpha),  # annotated as int upstream, used as a number
        lora_dropout=options.dropout,
        target_modules=targets,
        fan_in_fan_out=isinstance(model.get_submodule(targets[0]), Conv1D),
        use_rslora=isinstance(options, LoraRecovery) and options.rank_stabilised,
        use_dora=isinstance(options, LoraRecovery) and options.dora,
        bias="none",
        task_type="CAUSAL_LM",
    )
    what = f"No adapters can be put on a {model.config.model_type} model"
    with blamed_on("model", what, value=model.config.model_type, expected=WITHOUT_ADAPTERS, kind=UnsupportedModel):
        adapted = get_peft_model(model, config, autocast_adapter_dtype=True)
    return cast(PeftModel, adapted)


def check_adapters(config: dict[str, Any], options: LoraRecovery) -> None:
    """Put the adapters on the model without weights. Raises as `add_adapters`."""
    add_adapters(skeleton(as_config(config)), options, seed=0)


def recover(job: RecoveryJob, options: LoraRecovery) -> RecoveryOutcome:
    """Train adapters on the job's pruned checkpoint; write `checkpoint/` and `adapter/`.

    Raises:
        InvalidInput: the text is too short or cannot be read.
        StageFailed: a loss is not finite.
    """
    data, text = training_data(job, options)
    settings = settings_of(options, samples=len(data))
    start = healed_start(job, options, data.ids)
    checkpoint = start.checkpoint
    model = job.load_to_train(checkpoint)
    notes = [*start.notes, *notes_on(model)]
    adapted = add_adapters(model, options, seed=job.machine.seed)
    with quick_adapters(adapted):
        outcome = run_training(job, options, adapted, data, settings, identity=job.identity(text=text.sha256))
    trained = trainable_parameters(adapted)
    save_adapter(adapted, job.out / "adapter")
    write_merged(adapted, checkpoint, job.out / "checkpoint")
    notes += training_notes(settings, outcome)
    return RecoveryOutcome(text, trained, outcome, notes, start.healed, schedule_of(settings, outcome))


def save_adapter(model: PeftModel, target: Path) -> None:
    """Write the adapter as peft loads it, without a path of this machine in its config."""
    with whole_folder(target) as part:
        state = {name: value.cpu().contiguous() for name, value in get_peft_model_state_dict(model).items()}
        save_file(state, part / ADAPTER_FILE, metadata={"format": "pt"})
        (part / ADAPTER_FILE).chmod(0o644)  # safetensors leaves it to its owner alone
        config: Any = model.peft_config["default"]
        before = config.base_model_name_or_path, config.inference_mode
        config.base_model_name_or_path, config.inference_mode = None, True
        config.save_pretrained(str(part))
        config.base_model_name_or_path, config.inference_mode = before


def write_merged(model: PeftModel, source: Checkpoint, target: Path, *, progress: Progress = no_progress) -> None:
    """Write the checkpoint `source` with the adapters merged into its weights.

    Args:
        source: the checkpoint that `model` was loaded from.
    """
    inner = cast(PreTrainedModel, model.get_base_model())
    names = names_on_disk(inner, source)
    changes: dict[str, Change] = {}
    for path, layer in inner.named_modules():
        if isinstance(layer, LoraLayer):
            held = names[f"{path}.weight"]
            if not held:
                raise UnsupportedModel(f"The checkpoint stores {path}.weight in a form that adapters cannot go into.")
            changes.update(together(source, held, _merging(layer)))
    patch_checkpoint(source, target, changes, progress=progress)


def _merging(layer: Any) -> Callable[[Tensor], Tensor]:
    device = layer.get_base_layer().weight.device

    def change(weight: Tensor) -> Tensor:
        """(out, in) from disk, fp32 → the same with the adapter in it, by peft's own rule for the variant in use."""
        base = layer.get_base_layer()
        base.weight.data = weight.to(device)
        layer.merge(safe_merge=False)  # numbers that are not finite are looked for when the tensor is written
        merged = cast(Tensor, base.weight.data)
        base.weight.data = torch.empty(0)  # the model is done with: one weight at a time is held
        return merged

    return change
