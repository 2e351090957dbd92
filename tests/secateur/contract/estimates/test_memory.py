"""Memory and disk from sizes: held against what was seen of real models, and growing with what makes them grow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks._estimated_stages import Case, cases, of_a_mixture
from secateur.contract.estimates.disk import published, scratch
from secateur.contract.estimates.memory import peak_memory
from secateur.contract.estimates.model import KnownModel, in_bytes, known_model
from secateur.contract.estimates.removal import removal_of
from secateur.contract.estimates.setting import Setting
from secateur.contract.estimates.sizes import pruned_size
from secateur.contract.models.parameters import parameter_count
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import STAGE_KINDS
from tests.fixtures.smollm2 import BLOCK, PARAMETERS, SMOLLM2_CONFIG

TEXT = {"source": "local", "path": "news.txt"}
GEMMA3_CONFIG: dict[str, Any] = {
    **{"model_type": "gemma3_text", "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18},
    **{"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262_144},
}
MIXTURE_CONFIG: dict[str, Any] = {  # `benchmarks/random_mixture.py`
    **{"model_type": "qwen3_moe", "hidden_size": 512, "intermediate_size": 1536, "moe_intermediate_size": 384},
    **{"num_experts": 24, "num_experts_per_tok": 4, "num_hidden_layers": 8, "num_attention_heads": 8},
    **{"num_key_value_heads": 4, "head_dim": 64, "tie_word_embeddings": True, "vocab_size": 49_152},
}
CONFIGS = {"smollm2-135m": SMOLLM2_CONFIG, "gemma3-270m": GEMMA3_CONFIG, "random-mixture": MIXTURE_CONFIG}
SEEN = json.loads((Path(__file__).parents[3] / "data" / "stage_memory.json").read_text())


def known(config: dict[str, Any], *, width: int = 4) -> KnownModel:
    count = parameter_count(config)
    assert count is not None
    model = known_model(config, in_bytes(count, width))
    assert model is not None
    return model


def setting(*, device: str = "cpu", width: int = 4, imported: bool = True, **sections: Any) -> Setting:
    body = {"model": {"source": "local", "path": "m.gguf"}, "pruning": {"kind": "depth", "blocks": 6}}
    spec = CompressionSpec.model_validate({**body, "recovery": {"kind": "none"}, **sections})
    model = known(SMOLLM2_CONFIG, width=4 if imported else 2)
    return Setting(spec, model, removal_of(spec, model), imported, device, width)


SCORED: dict[str, Any] = {
    "scoring": {"criterion": "perplexity", "calibration": {"text": TEXT, "samples": 10, "tokens": 128}}
}
TIMED: dict[str, Any] = {
    "quantise": [{"kind": "int8"}],
    "benchmark": {"latency": {"output_tokens": [64]}, "perplexity": {"texts": [TEXT], "windows": 8}},
}
HEALED: dict[str, Any] = {
    "pruning": {"kind": "depth", "drop": [6, 7, 8, 9, 10, 11]},
    "recovery": {"kind": "healing", "text": TEXT, "own_text": 0, "samples": 8, "tokens": 128},
}
TRAINED: dict[str, Any] = {"text": TEXT, "samples": 4, "batch_size": 4, "micro_batch_size": 4, "tokens": 128}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, found in SEEN.items() for case in found])
def test_what_was_seen(name: str, case: str) -> None:
    """Megabytes that a stage alone used at most, on a CPU in float32 (`benchmarks/estimates.py`)."""
    model, imported = known(CONFIGS[name]), name != "random-mixture"
    path = {"source": "local", "path": "m.gguf" if imported else "m"}
    found = of_a_mixture(TEXT) if name == "random-mixture" else cases(TEXT, len(model.count.blocks), path)
    stage: Case = next(one for one in found if one.name == case)
    spec = CompressionSpec.model_validate({"model": path, "recovery": {"kind": "none"}, **stage.sections})
    target = model if spec.target_model is not None else None
    told = peak_memory(stage.kind, Setting(spec, model, removal_of(spec, model), imported, "cpu", 4, target))
    assert told == pytest.approx(SEEN[name][case] * 10**6, rel=0.1)


def test_what_was_seen_of_whole_benchmarks() -> None:
    """Timed and read, with and without a model in integers, which is unpacked beside those that are timed."""
    alone = setting(benchmark=TIMED["benchmark"])
    assert peak_memory("benchmark", setting(**TIMED)) == pytest.approx(2246e6, rel=0.1)
    assert peak_memory("benchmark", alone) == pytest.approx(1338e6, rel=0.1)


def test_every_kind_has_memory_and_disk() -> None:
    whole = setting(**TIMED)
    for kind in STAGE_KINDS:
        assert peak_memory(kind, whole) > 0
        assert published(kind, whole, pruned_bytes=10, file_bytes=None) is not None


def test_a_criterion_takes_what_it_carries_and_packs() -> None:
    """States of the text before all blocks or two, packed weights of all blocks or none, states from round to round."""

    def scored(criterion: str, samples: int = 10, **more: Any) -> int:
        calibration = {"text": TEXT, "samples": samples, "tokens": 128}
        return peak_memory("score", setting(scoring={"criterion": criterion, "calibration": calibration, **more}))

    state = 10 * 128 * 576 * 4
    one_pass = scored("block_influence")
    assert scored("angular") == scored("cosine") == one_pass
    assert scored("block_influence", 20) - one_pass == 2 * state + (2048 - 1280) * 4 * (3 * 1536 + 3 * 576)
    assert scored("perplexity", 20) - scored("perplexity") == 32 * state
    assert scored("perplexity", racing=True) - scored("perplexity") == 30 * BLOCK * 4
    kept = 30 + 24 * 25 // 2  # before each block that of the intact model, and those without an earlier one of 24
    assert scored("greedy") - scored("perplexity", racing=True) == kept * state
    assert scored("taylor", 20) - scored("taylor") >= 32 * state
    assert scored("healed_greedy", 20) - scored("healed_greedy") == 62 * state
    assert scored("healed_greedy", sets="runs") < scored("healed_greedy")
    assert scored("perplexity", 1000) == scored("perplexity", 2000)  # in groups, each within a gibibyte
    assert peak_memory("score", setting(scoring={"criterion": "random"})) < one_pass


def test_weights_of_another_dtype_than_the_files_are_no_longer_mapped() -> None:
    mapped, converted = setting(**SCORED), setting(imported=False, **SCORED)
    assert peak_memory("score", converted) - peak_memory("score", mapped) == 4 * PARAMETERS


def test_a_gpu_has_no_libraries_and_all_weights() -> None:
    on_gpu = setting(device="cuda", width=2, **SCORED)
    assert peak_memory("score", on_gpu) > 2 * PARAMETERS
    assert peak_memory("report", on_gpu) == 0
    assert peak_memory("score", setting(device="cuda", width=2, scoring={"criterion": "random"})) < 10**8


def test_a_tokenizer_counts_by_its_merges() -> None:
    """Reading a text with 262,144 tokens and twice as many merges takes more than what is then done with it."""
    section = {"criterion": "block_influence", "calibration": {"text": TEXT, "samples": 1, "tokens": 64}}
    spec = CompressionSpec.model_validate(
        {"model": {"source": "local", "path": "m"}, "pruning": {"kind": "depth", "blocks": 2}, "scoring": section}
    )
    large, small = known(GEMMA3_CONFIG), known({**GEMMA3_CONFIG, "vocab_size": 32_000})
    found = [peak_memory("score", Setting(spec, model, None, False, "cpu", 4)) for model in (large, small)]
    assert found[0] - found[1] > 1000 * 2 * (262_144 - 32_000)


def test_a_training_of_all_weights_takes_its_moments() -> None:
    adapters = setting(recovery={"kind": "distill", "train": "lora", **TRAINED})
    whole = setting(recovery={"kind": "distill", "train": "all", **TRAINED})
    left = PARAMETERS - 6 * BLOCK
    more = peak_memory("recover", whole) - peak_memory("recover", adapters)
    assert 12 * left < more < 16 * left
    longer = setting(recovery={"kind": "distill", "train": "lora", **TRAINED, "tokens": 256})
    assert peak_memory("recover", longer) > peak_memory("recover", adapters)
    assert scratch("recover", whole) > scratch("recover", adapters) == 0


def test_what_is_not_trained_has_no_moments_and_keeps_no_states() -> None:
    def trained(train: str, **more: Any) -> int:
        pruning = {"kind": "depth", "drop": [18, 19, 20, 21, 22, 23]}
        recovery = {"kind": "distill", "train": train, "heal": False, **TRAINED, "epochs": 4, **more}
        return peak_memory("recover", setting(pruning=pruning, recovery=recovery))

    of_a_block = 4 * 128 * 4 * (6 * 576 + 5 * 576 + 4 * 1536)
    assert trained("all") - trained("after_cut") == 12 * (PARAMETERS - 13 * BLOCK) + 17 * of_a_block
    inputs = 4 * 128 * 4 * (4 * 576 + 576 + 1536)  # that a frozen block does not keep, through which gradients go
    assert trained("all") - trained("last_blocks") == 12 * 21 * BLOCK + 12 * 576 + 21 * inputs
    assert trained("last_blocks", last_blocks=4) - trained("last_blocks") == 12 * BLOCK + inputs
    assert trained("lora", rank=64) - trained("lora", rank=8) == 7 * (
        trained("lora", rank=16) - trained("lora", rank=8)
    )


def test_moments_come_after_the_states_of_a_single_step() -> None:
    def trained(samples: int, micro: int, **more: Any) -> int:
        shape = {**TRAINED, "samples": samples, "micro_batch_size": micro, "epochs": 1}
        return peak_memory(
            "recover", setting(recovery={"kind": "distill", "train": "all", "heal": False, **shape, **more})
        )

    left = PARAMETERS - 6 * BLOCK
    assert trained(8, 4) > trained(4, 4)
    assert trained(4, 4, tokens=8) == trained(8, 4, tokens=8)  # both are the step's own
    assert trained(8, 2, tokens=8) - trained(8, 4, tokens=8) < 4 * left
    assert trained(8, 2, tokens=2048) - trained(4, 2, tokens=2048) == 12 * left


def test_states_that_are_computed_again_are_not_kept() -> None:
    def trained(again: bool) -> int:
        options = {"kind": "continued", **TRAINED, "tokens": 1024, "gradient_checkpointing": again}
        return peak_memory("recover", setting(recovery=options))

    of_a_block = 4 * 1024 * (11 * 576 + 4 * 1536) * 4
    assert trained(False) - trained(True) == 23 * of_a_block - 4 * 1024 * 24 * 576 * 4


def test_healing_keeps_what_it_found_for_each_block_after_the_cut() -> None:
    def healed(first: int, **more: Any) -> int:
        drop, recovery = list(range(first, first + 6)), {**HEALED["recovery"], **more}
        return peak_memory("recover", setting(pruning={"kind": "depth", "drop": drop}, recovery=recovery))

    of_a_block = 4 * 576 * (1536 + 576)
    assert healed(6) - healed(16) == 10 * of_a_block
    assert healed(6) - healed(6, refit="none") == 18 * of_a_block
    longer = healed(6, samples=4096) - healed(6, samples=2048)
    assert longer == 2048 * 128 * 4 * 576 * 4  # states alone


def test_several_models_are_there_at_a_time() -> None:
    timed = {"latency": {"output_tokens": [8]}}
    target = {"kind": "depth", "target": {"speedup": 1.2}}
    depths = setting(pruning=target, benchmark=timed)
    without = (8 + 16 + 24) * BLOCK  # a third, two thirds and all of the blocks that may go
    cache = 20 * 30 * 384 * 4
    base = peak_memory("report", depths)
    assert peak_memory("plan", depths) - base == 4 * (4 * PARAMETERS - without) + cache
    alone = setting(pruning={"kind": "depth", "target": {"memory": 0.8}}, benchmark=timed)
    assert peak_memory("plan", alone) - base == cache  # one after the other, as they lie in their files
    joint = {"kind": "joint", "target": {"speedup": 1.2}}
    halves = setting(pruning=joint, benchmark=timed)
    parts = (2 / 3 + 0.5 + 1) * 30 * BLOCK  # of attentions, and as much of MLPs
    assert peak_memory("costs", halves) - base == pytest.approx(4 * (5 * PARAMETERS - parts) + cache, rel=1e-6)


def test_files_are_unpacked_and_held_to_be_measured() -> None:
    left, file = PARAMETERS - 6 * BLOCK, {"kind": "gguf", "type": "Q4_0"}
    alone, recovered = (
        setting(benchmark={"latency": None}),
        setting(recovery={"kind": "healing"}, benchmark={"latency": None}),
    )
    assert scratch("benchmark", alone) == 0
    assert scratch("benchmark", recovered) == 4 * left  # the recovered model as it came
    assert scratch("benchmark", setting(recovery={"kind": "healing"}, quantise=[file, {"kind": "int8"}])) == 8 * left
    timed, also = setting(**TIMED), setting(recovery={"kind": "healing"}, **TIMED)
    assert peak_memory("benchmark", also) - peak_memory("benchmark", timed) == 4 * left  # as a file it is not timed


def test_what_is_published() -> None:
    job = setting(quantise=[{"kind": "int8"}, {"kind": "gguf", "type": "Q4_0"}])
    left = PARAMETERS - 6 * BLOCK
    assert job.removal is not None
    pruned = pruned_size(job.model, job.removal, width=4).bytes
    assert published("prune", job, pruned_bytes=pruned, file_bytes=1000) == 4 * left + 1000 + (1 << 20)
    quantised = published("quantise", job, pruned_bytes=pruned, file_bytes=None)
    assert quantised is not None
    assert quantised == 198_545_280 + 77_969_664 + (1 << 20)
    assert published("prune", job, pruned_bytes=None, file_bytes=None) is None
