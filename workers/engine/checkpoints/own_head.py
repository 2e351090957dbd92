"""Whether the files of a checkpoint hold a head of their own where its config says that the head is the embedding.

That happens when adapters were merged into the head alone, or when a tool wrote both matrices and changed one. By
transformers the files decide: two matrices that differ are not tied. Others, vLLM and converters to GGUF among them,
believe the config and drop the head. So the truth is found here, once, and whatever is written says it in its config.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from secateur.contract.errors import InvalidInput
from workers.engine.architectures.config import as_config
from workers.engine.architectures.discovery import skeleton
from workers.engine.checkpoints.block_names import in_a_stack
from workers.engine.checkpoints.stored_tensors import StoredTensors


def has_own_head(tensors: StoredTensors, written: Mapping[str, Any]) -> bool:
    """Whether two matrices that `written`, the config on disk, ties are stored with different values.

    The weights are looked at only where two matrices outside the blocks have the same shape and the config ties them.
    """
    outside = Counter(tensors.shape(name) for name in tensors.names() if not in_a_stack(name))
    if not any(count > 1 and len(shape) == 2 for shape, count in outside.items()):
        return False
    try:
        config = as_config(dict(written))
        if not getattr(config, "tie_word_embeddings", False):
            return False
        # Imported here: it brings the model classes along, which few checkpoints need to be opened.
        from workers.engine.checkpoints.names_on_disk import recipes_of, shapes_of

        model = skeleton(config)
    except InvalidInput:  # who needs the model says what is wrong with its config
        return False
    recipes = recipes_of(tensors, model, shapes_of(model))
    stored = {recipe.target: recipe.sources[0][1] for recipe in recipes if recipe.converter is None}
    pairs = [(stored.get(one), stored.get(other)) for one, other in model.all_tied_weights_keys.items()]
    return any(one and other and not tensors.same_values(one, other) for one, other in pairs)
