"""Reading a config: from a dict to transformers' class, its number of blocks, and what cannot be pruned.

The engine works on decoder-only Transformers with softmax attention in every block. What is not one is refused
here, from the config alone, with the reason: a sentence now is better than a wrong score later.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from secateur.contract.errors import BadCheckpoint, FieldError, UnsupportedModel
from secateur.contract.models.config_limits import check_config_limits
from secateur.contract.shown import LINE_CHARACTERS, printable, shortened
from workers.engine.architectures.culprit import entry_to_blame
from workers.engine.architectures.deferred_activations import defer_activations
from workers.engine.bounded_child import BoundedChild, ChildEnded

defer_activations()  # before the first config class is imported, which `as_config` does by name

CONFIG_SECONDS = 30.0  # to build a config, which takes milliseconds; its class may have to be imported
CONFIG_MEMORY = 512 * 2**20  # bytes beyond what the process has
_SUSPECTS = 4  # entries that are tried, where a config takes more

_EXPECTED = "a decoder-only Transformer, such as Llama, Mistral, Qwen, Gemma, Phi, GPT-2 or OPT"

# Sub-configs that only models with another modality beside text have.
_MODALITIES = {
    "vision_config": "a vision model",
    "audio_config": "an audio model",
    "speech_config": "a speech model",
    "talker_config": "a speech model",
}

# Families whose blocks carry a recurrent state, wholly or in part. A block of another kind is also found by
# structure (`discovery.py`); these are named so that the refusal needs no skeleton.
_STATE_SPACE = frozenset(
    {
        "bamba",
        "falcon_h1",
        "falcon_mamba",
        "granitemoehybrid",
        "jamba",
        "kimi_linear",
        "lfm2",
        "lfm2_moe",
        "lfm3",
        "mamba",
        "mamba2",
        "minimax",
        "nemotron_h",
        "olmo_hybrid",
        "qwen3_5",
        "qwen3_5_moe",
        "qwen3_5_moe_text",
        "qwen3_5_text",
        "qwen3_next",
        "recurrent_gemma",
        "rwkv",
        "xlstm",
        "zamba",
        "zamba2",
    }
)


DECILM = "nemotron-nas"  # the model type of a Llama whose blocks may lack either half
_UNEVEN = (DECILM, "secateur")  # what pruning makes of a model where no config of transformers can say it

# Entries of config.json that are of the machine which wrote it, say in what form its program liked to have a model's
# answers, or send the reader to other files.
_NOT_OF_THE_MODEL = frozenset(
    {
        "_attn_implementation",
        "_attn_implementation_internal",
        "_experts_implementation",
        "_experts_implementation_internal",
        "attn_implementation",
        "auto_map",  # names code that never runs here
        "configuration_files",
        "experts_implementation",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "torchscript",
        "use_return_dict",
    }
)


def model_entries(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config.json` without what says nothing of the model, in its own order."""
    return {key: value for key, value in config.items() if key not in _NOT_OF_THE_MODEL}


def unsupported(reason: str, *, model_type: Any) -> UnsupportedModel:
    """The error for a model that no method of the engine holds for; `reason` is a whole sentence."""
    return UnsupportedModel(reason, errors=[FieldError("model", reason, model_type, _EXPECTED)])


def as_config(config: dict[str, Any] | PretrainedConfig) -> PretrainedConfig:
    """`config.json` as transformers' config class; a config object comes back as it is.

    Raises:
        BadCheckpoint: no `model_type`, or values that the family's config class does not take.
        UnsupportedModel: transformers has no such `model_type` (remote code stays off).
    """
    if isinstance(config, PretrainedConfig):
        return config
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise BadCheckpoint.field("model", "config.json has no model_type.", value=model_type, expected=_EXPECTED)
    if model_type == "mistral" and "layer_types" in config:
        model_type = "ministral"  # as transformers reads it: Mistral's own class would have every block alike
    if model_type in _UNEVEN:
        raise unsupported(
            f'Blocks of the model type "{model_type}" have lost halves or are of different widths, and such a model is '
            "not pruned again.",
            model_type=model_type,
        )
    if model_type not in CONFIG_MAPPING:
        raise unsupported(
            f'The installed transformers does not know the model type "{model_type}", and code that comes with '
            "a checkpoint is never run.",
            model_type=model_type,
        )
    check_config_limits(config)
    entries = {key: value for key, value in model_entries(config).items() if key != "model_type"}
    _refuse_bursting(model_type, json.dumps(entries, default=repr))
    try:
        return _loaded(model_type, entries)
    except Exception as error:  # each config class validates in its own way and raises its own kind
        key = entry_to_blame(entries, lambda left: _loaded(model_type, left))
        which = "" if key is None else f", by its entry {key}"
        raise BadCheckpoint.field(
            "model",
            f"config.json is not a valid {model_type} config{which}: {one_line(error)}",
            value=model_type if key is None else entries[key],
            expected=f"values that the {model_type} config of transformers takes",
        ) from error


@lru_cache(maxsize=64)
def _refuse_bursting(model_type: str, entries: str) -> None:
    """Build a config in a process with little memory first: classes make lists and tables of numbers that it claims.

    `check_config_limits` bounds those numbers that are known to be counted with; no list of names is complete.

    Raises:
        BadCheckpoint: it takes more memory or time than any config.
    """

    def answer(left_out: bytes) -> bytes:
        try:
            _loaded(model_type, {key: value for key, value in given.items() if key != left_out.decode()})
        except Exception as error:
            cause: BaseException | None = error
            while cause is not None:  # validators wrap what they meet
                if isinstance(cause, MemoryError):
                    raise MemoryError from None
                cause = cause.__cause__ or cause.__context__
        return b""  # what else is wrong is found again by who builds it for good

    given: dict[str, Any] = json.loads(entries)
    with BoundedChild(answer, memory=CONFIG_MEMORY) as child:
        try:
            child.ask(b"", seconds=CONFIG_SECONDS)
            return
        except ChildEnded as error:
            words = str(error)
        for key in sorted(given, key=lambda key: _largest(given[key]), reverse=True)[:_SUSPECTS]:
            try:
                child.ask(key.encode(), seconds=CONFIG_SECONDS / _SUSPECTS)
            except ChildEnded:
                continue
            break
        else:
            key = ""
    which = f": its entry {one_line(key)} claims too much" if key else ""
    raise BadCheckpoint.field(
        "model",
        f"config.json cannot be used{which}. The process that built a {model_type} config of it {words}.",
        value=given[key] if key else model_type,
        expected="numbers that a model has",
    )


def _largest(value: Any) -> float:
    """The largest number in a value of JSON."""
    if isinstance(value, int | float):
        return abs(value)
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max(map(_largest, held), default=0)


def _loaded(model_type: str, entries: Mapping[str, Any]) -> PretrainedConfig:
    loaded: PretrainedConfig = AutoConfig.for_model(model_type, **_with_tagged_floats(entries))
    loaded.to_dict()  # not every entry is looked at before it is written again
    return loaded


def _with_tagged_floats(value: Any) -> Any:
    """A copy in which what JSON has no number for is one: transformers writes infinity as {"__float__": "Infinity"}."""
    if isinstance(value, Mapping):
        if list(value) == ["__float__"] and value["__float__"] in ("Infinity", "-Infinity", "NaN"):
            return float(value["__float__"])
        return {key: _with_tagged_floats(held) for key, held in value.items()}
    return [_with_tagged_floats(held) for held in value] if isinstance(value, list) else copy.copy(value)


def one_line(error: Exception | str) -> str:
    """The text of another library's error, which may run over several lines, as part of a sentence."""
    return shortened(printable(" ".join(str(error).split()) or type(error).__name__), LINE_CHARACTERS)


def layer_count(config: PretrainedConfig) -> int:
    """How many blocks the config declares.

    Raises:
        UnsupportedModel: the config declares no number of layers, so it is no stack of blocks.
    """
    count = getattr(config, "num_hidden_layers", None)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise unsupported(
            f'A model of type "{config.model_type}" does not declare its number of layers.',
            model_type=config.model_type,
        )
    return count


def refuse_unsupported(config: PretrainedConfig) -> None:
    """Raise UnsupportedModel, with the reason, if `config` is not of a decoder-only Transformer."""
    model_type = config.model_type
    for entry, kind in _MODALITIES.items():
        if getattr(config, entry, None) is not None:
            raise unsupported(
                f'A model of type "{model_type}" is {kind}: it has more inputs than text.',
                model_type=model_type,
            )
    if getattr(config, "is_encoder_decoder", False) or (model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES):
        raise unsupported(f'A model of type "{model_type}" is an encoder-decoder.', model_type=model_type)
    if model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise unsupported(
            f'A model of type "{model_type}" is an encoder: its tokens look at those that follow.',
            model_type=model_type,
        )
    if model_type in _STATE_SPACE:
        raise unsupported(
            f'A model of type "{model_type}" is a state-space or recurrent model, wholly or in part.',
            model_type=model_type,
        )
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise unsupported(f'A model of type "{model_type}" is not a causal language model.', model_type=model_type)
    names = getattr(config, "architectures", None) or []
    if not isinstance(names, list | tuple):
        raise BadCheckpoint.field(
            "model", "config.json: architectures is not a list.", value=names, expected="a list of names of classes"
        )
    if names and not any(_is_causal(name) for name in names):
        raise unsupported(f"The checkpoint is a {names[0]}, which has no language-model head.", model_type=model_type)
    layer_count(config)


def _is_causal(class_name: Any) -> bool:
    return class_name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() or str(class_name).endswith(
        ("ForCausalLM", "LMHeadModel")
    )
