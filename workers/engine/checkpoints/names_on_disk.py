"""What each tensor of a checkpoint is to the model: which parameter it makes, and which tensors hold a parameter.

Names on disk are not always names in memory. Old checkpoints leave out prefixes, some families store other module names
(EXAONE's `transformer.h.…` is `model.layers.…`), mixtures of experts lie on disk expert by expert, and a tied head may
be stored beside the embedding that it shares. transformers has the rules, so they are asked; what reads a checkpoint,
writes one or judges whether it fits its config sees the same names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

from workers.engine.checkpoints.stored_tensors import StoredTensors

_ADAPTED = ".base_layer."  # peft puts a layer of this name between an adapted map and its weight


@dataclass(frozen=True)
class Recipe:
    """How one tensor of the model is made: from one tensor on disk, or from several by a converter."""

    target: str  # name in the model; of a converter, the first of the names that it makes
    sources: tuple[tuple[str, str], ...]  # (pattern of the converter, name on disk)
    converter: WeightConverter | None  # None where the tensor is taken as it is

    def targets(self) -> list[str]:
        if self.converter is None:
            return [self.target]
        first = self.converter.target_patterns[0]
        return [self.target.replace(first, pattern) for pattern in self.converter.target_patterns]


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of the model by their names, without what adapters put between."""
    return {name.replace(_ADAPTED, "."): tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def recipes_of(tensors: StoredTensors, model: PreTrainedModel, shapes: Mapping[str, tuple[int, ...]]) -> list[Recipe]:
    """Recipes for all tensors of `model` that the checkpoint has; what it has beyond is passed over.

    This follows the order of transformers' own loading, natural order of names included: experts are stacked in
    the order in which they come.
    """
    converters = [entry for entry in get_model_conversion_mapping(model) if isinstance(entry, WeightConverter)]
    by_pattern = {pattern: entry for entry in converters for pattern in entry.source_patterns}
    sources: dict[str, list[tuple[str, str]]] = {}
    for name, (target, pattern) in renamed(tensors.names(), model, shapes).items():
        if target in shapes:
            sources.setdefault(target, []).append((pattern, name))
    return [
        Recipe(target, tuple(found), by_pattern[found[0][0]] if found[0][0] else None)
        for target, found in sources.items()
    ]


def renamed(
    names: Iterable[str], model: PreTrainedModel, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[str, str]]:
    """What transformers calls each of the tensors `names`, and the pattern of the converter that takes it, or "".

    In natural order of the names on disk. A name that is not one of `shapes` is no tensor of the model.
    """
    conversions = get_model_conversion_mapping(model)
    renamings = [entry for entry in conversions if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in conversions if isinstance(entry, WeightConverter)]
    known = cast(dict[str, Any], shapes)
    base = model.base_model_prefix
    found = {}
    for name in sorted(names, key=dot_natural_key):
        target, pattern = rename_source_key(name, renamings, converters, base, known)
        if target not in shapes and name in shapes:
            target, pattern = rename_source_key(name, [], [], base_model_prefix=base, meta_state_dict=known)
        found[name] = target, pattern or ""
    return found


def names_on_disk(model: PreTrainedModel, tensors: StoredTensors) -> dict[str, tuple[str, ...]]:
    """For each parameter of `model`, the tensors of the checkpoint that hold it as it is computed with.

    A parameter that several modules share has all the names under which any of them is stored: whoever writes one must
    write them all, or transformers finds them different and no longer ties them. A parameter that is stored in another
    form, such as experts one by one, has none.

    Args:
        model: loaded from the checkpoint, so that what it shares in memory is what the files share; adapters may be on
            it. Of a model that was made of the config alone, what is shared is what the config claims.

    Returns:
        Every name of `named_parameters`, those of shared parameters included, without what adapters put between.
    """
    shapes = shapes_of(model)
    stored = {
        recipe.target: tuple(name for _, name in recipe.sources)
        for recipe in recipes_of(tensors, model, shapes)
        if recipe.converter is None
    }
    shared: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        shared.setdefault(id(parameter), []).append(name.replace(_ADAPTED, "."))
    found = {}
    for names in shared.values():
        held = tuple(
            source for name in names for source in stored.get(name, ()) if tensors.shape(source) == shapes[name]
        )
        found.update(dict.fromkeys(names, held))
    return found
