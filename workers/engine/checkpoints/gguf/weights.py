"""A transformers model whose every weight is made of a GGUF file's tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights

from secateur.contract.errors import UnsupportedModel
from secateur.foreign_files.json_objects import quoted
from workers.engine.checkpoints import modeling_secateur
from workers.engine.checkpoints.gguf.family import Family
from workers.engine.checkpoints.gguf.rules import Rule, Weight
from workers.engine.checkpoints.gguf.source import Source
from workers.engine.checkpoints.own_loader import needs_loader

_NUMBERED = re.compile(r"\.\d+$")


def empty_model(source: Source, values: dict[str, Any]) -> PreTrainedModel:
    """The model that the keys describe, without memory for its weights.

    Raises:
        UnsupportedModel: transformers does not take such a config.
    """
    try:
        if needs_loader(values):
            return modeling_secateur.empty_model(values)
        config = AutoConfig.for_model(**values)
        with no_init_weights(), torch.device("meta"):  # drawing random numbers for no memory is half the time
            # the auto classes carry no annotations
            model = cast(PreTrainedModel, AutoModelForCausalLM.from_config(config))  # type: ignore[no-untyped-call]
            model.tie_weights()  # which is left out together with the random numbers
            return model
    except Exception as error:  # a config's own checks raise what they will
        first = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        raise UnsupportedModel(
            f"{source.name}: transformers does not take the model that the file describes: {first}"
        ) from error


def check_weights(model: PreTrainedModel, source: Source, family: Family) -> None:
    """See that the file's tensors make every weight, by names and shapes alone.

    Raises:
        BadCheckpoint: a tensor is missing, or of another shape than the model's.
        UnsupportedModel: a tensor is of a type that cannot be read.
    """
    for name, parameter in model.named_parameters():
        made = _make(name, parameter, model.config, source, family, source.outline)
        if made.shape != parameter.shape:
            raise source.bad(
                f"the tensors of {name} make up {tuple(made.shape)}, and the keys describe {tuple(parameter.shape)}"
            )


def fill(model: PreTrainedModel, source: Source, family: Family, dtype: torch.dtype) -> Iterator[tuple[int, int]]:
    """Give the model its weights, which have been checked, one by one; yields how many of how many are there."""
    wanted = dict(model.named_parameters())  # a tied head is one with the embedding
    filled: dict[str, Tensor] = {}
    for name, parameter in wanted.items():
        filled[name] = _make(name, parameter, model.config, source, family, source.load).to(dtype).contiguous()
        yield len(filled), len(wanted)
    model.load_state_dict(filled, assign=True, strict=False)
    model.tie_weights()
    model.to(dtype)  # type: ignore[arg-type]  # what the config says of the dtype follows the weights
    left = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    assert not left, left  # every one of them was filled above


def _make(
    name: str, parameter: Tensor, config: Any, source: Source, family: Family, load: Callable[[str], Tensor]
) -> Tensor:
    """One weight of the model, of the tensors that `load` gives."""
    prefix = f"{family.layers}."
    block, inner, rules = "", name, family.outer
    if name.startswith(prefix):
        number, _, inner = name.removeprefix(prefix).partition(".")
        block, rules = f"blk.{number}.", family.block
    module, _, kind = inner.rpartition(".")
    if kind not in ("weight", "bias"):  # stacked experts are parameters without a module
        module, kind = inner, "weight"
    rule = _rule(rules, module)
    if rule is None:
        raise source.unsupported(f"no tensor is known here that makes the weight {quoted(name)}")
    if (
        kind == "bias"
        and module in family.bias_may_be_zero
        and not any(source.any_tensor(f".{part}.bias") for part in rule.parts)
    ):
        return torch.zeros_like(parameter, device="meta" if load == source.outline else "cpu")
    return rule.make([load(f"{block}{part}.{kind}") for part in rule.parts], Weight(module, kind, config))


def _rule(rules: Mapping[str, Rule], module: str) -> Rule | None:
    found = rules.get(module)
    return found if found is not None else rules.get(_NUMBERED.sub("", module))
