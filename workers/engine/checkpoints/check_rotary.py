"""Whether the rotary embeddings that a config asks for come to numbers.

Their frequencies are no weights: a model computes them when it is built, from a base, a factor and lists of the config.
Nothing holds those to each other, so a factor of 1e300 gives frequencies of 0, which tell no position from another, and
a base of 0 infinite ones. The modules are built here as the model would, which takes no memory worth a word.
"""

from __future__ import annotations

import math
from typing import Any

from transformers import PreTrainedModel

from secateur.contract.errors import BadCheckpoint

_ENTRIES = ("rope_parameters", "rope_scaling", "rope_theta")  # of the config, the first that it has is shown


def check_rotary(model: PreTrainedModel) -> None:
    """Compute the frequencies of each rotary embedding of a model on the meta device.

    Raises:
        BadCheckpoint: some are no finite numbers, or all of them are 0.
    """
    config: Any = model.config
    for module in model.modules():
        names = [name for name, _ in module.named_buffers(recurse=False) if name.endswith("inv_freq")]
        if not names:
            continue
        kind: Any = type(module)
        try:
            built = kind(config)
        except (AttributeError, TypeError):  # a family whose module is built of something else
            continue
        for name in names:
            frequencies = getattr(built, name).double()
            if bool(frequencies.isfinite().all()) and bool((frequencies != 0).any()):
                continue
            entry = next((entry for entry in _ENTRIES if getattr(config, entry, None)), _ENTRIES[0])
            shown = [value if math.isfinite(value) else str(value) for value in frequencies[:4].tolist()]
            raise BadCheckpoint.field(
                "model",
                f"The rotary embedding that config.json asks for has the frequencies {shown}, by its entry {entry}.",
                value=str(getattr(config, entry, None)),
                expected="a base and factors that give finite frequencies, not all of them 0",
            )
