"""Memory and disk from sizes: held against what was seen on SmolLM2, and growing with what makes them grow."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.contract.estimates.disk import published, scratch
from secateur.contract.estimates.memory import Setting, peak_memory
from secateur.contract.estimates.model import in_bytes, known_model
from secateur.contract.estimates.removal import removal_of
from secateur.contract.estimates.sizes import pruned_size
from secateur.contract.models.parameters import parameter_count
from secateur.contract.spec import CompressionSpec
from secateur.contract.stage_kinds import STAGE_KINDS
from tests.fixtures.smollm2 import BLOCK, HEAD, PARAMETERS, SMOLLM2_CONFIG

TEXT = {"source": "local", "path": "news.txt"}


def setting(*, device: str = "cpu", width: int = 4, imported: bool = True, **sections: Any) -> Setting:
    body = {"model": {"source": "local", "path": "m.gguf"}, "pruning": {"kind": "depth", "blocks": 6}}
    spec = CompressionSpec.model_validate({**body, "recovery": {"kind": "none"}, **sections})
    count = parameter_count(SMOLLM2_CONFIG)
    assert count is not None
    model = known_model(SMOLLM2_CONFIG, in_bytes(count, 4 if imported else 2))
    assert model is not None
    return Setting(spec, model, removal_of(spec, model), imported, device, width)


SCORED: dict[str, Any] = {
    "scoring": {"criterion": "perplexity", "calibration": {"text": TEXT, "samples": 10, "tokens": 128}}
}
TIMED: dict[str, Any] = {
    "quantise": [{"kind": "int8"}],
    "benchmark": {"latency": {"output_tokens": [64]}, "perplexity": {"texts": [TEXT], "windows": 8}},
}
WATCHED: dict[str, Any] = {
    "pruning": {"kind": "wanda_sp", "ratio": 0.2, "calibration": {"text": TEXT, "samples": 4, "tokens": 128}}
}
HEALED: dict[str, Any] = {
    "pruning": {"kind": "depth", "drop": [6, 7, 8, 9, 10, 11]},
    "recovery": {"kind": "healing", "text": TEXT, "own_text": 0, "samples": 8, "tokens": 128},
}
TRAINED: dict[str, Any] = {"text": TEXT, "samples": 4, "batch_size": 4, "micro_batch_size": 4, "tokens": 128}


@pytest.mark.parametrize(
    ("kind", "sections", "seen"),
    [
        ("check", {}, 938),
        ("score", SCORED, 686),
        ("prune", {}, 357),
        ("prune", WATCHED, 561),
        ("prune", {"pruning": {"kind": "vocabulary", "tokens": 30000, "text": TEXT}}, 428),
        ("quantise", TIMED, 620),
        ("benchmark", TIMED, 2246),
        ("recover", {"recovery": {"kind": "lora", **TRAINED}}, 1848),
        ("recover", HEALED, 808),
        ("recover", {"recovery": {"kind": "continued", **TRAINED, "epochs": 1}}, 2314),  # a single step
        ("report", {}, 348),
    ],
)
def test_what_was_seen_on_smollm2(kind: str, sections: dict[str, Any], seen: float) -> None:
    """Megabytes that a worker counted for stages of SmolLM2-135M as a GGUF file, on a CPU in float32."""
    assert peak_memory(kind, setting(**sections)) == pytest.approx(seen * 10**6, rel=0.1)


def test_the_import_of_a_model_that_is_mostly_its_vocabulary() -> None:
    """Gemma-3-270M, whose embedding is the most of it, was seen with 2,151 MB."""
    sizes = {"hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18, "vocab_size": 262_144}
    config = {"model_type": "gemma3_text", **sizes, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256}
    count = parameter_count(config)
    assert count is not None
    assert count.total == 268_098_176
    model = known_model(config, in_bytes(count, 4))
    assert model is not None
    spec = setting().spec
    seen = peak_memory("check", Setting(spec, model, removal_of(spec, model), True, "cpu", 4))
    assert seen == pytest.approx(2151e6, rel=0.1)


def test_every_kind_has_memory_and_disk() -> None:
    whole = setting(**TIMED)
    for kind in STAGE_KINDS:
        assert peak_memory(kind, whole) > 0
        assert published(kind, whole, pruned_bytes=10, file_bytes=None) is not None


def test_a_criterion_takes_what_it_carries_and_packs() -> None:
    """States of the text before all blocks or two, packed weights of all blocks or one, or gradients of one."""
    calibration = {"text": TEXT, "samples": 10, "tokens": 128}

    def scored(criterion: str) -> int:
        return peak_memory("score", setting(scoring={"criterion": criterion, "calibration": calibration}))

    states = 29 * 10 * 128 * 576 * 4  # of 31, those that a single pass need not carry
    one_pass = scored("block_influence")
    assert scored("angular") == scored("cosine") == one_pass
    assert scored("perplexity") - one_pass == states
    assert scored("greedy") - scored("perplexity") == 29 * BLOCK * 4
    assert (
        scored("taylor") == scored("perplexity") - HEAD * 4
    )  # a block's gradients for its packed weights; no packed head
    assert scored("evolutionary") == scored("healed_greedy") == scored("greedy")


def test_weights_of_another_dtype_than_the_files_are_no_longer_mapped() -> None:
    mapped, converted = setting(**SCORED), setting(imported=False, **SCORED)
    assert peak_memory("score", converted) - peak_memory("score", mapped) == 4 * PARAMETERS


def test_a_gpu_has_no_libraries_and_all_weights() -> None:
    on_gpu = setting(device="cuda", width=2, **SCORED)
    assert peak_memory("score", on_gpu) > 2 * PARAMETERS
    assert peak_memory("report", on_gpu) == 0


def test_a_training_of_all_weights_takes_its_moments() -> None:
    adapters = setting(recovery={"kind": "distill", "train": "lora", **TRAINED})
    whole = setting(recovery={"kind": "distill", "train": "all", **TRAINED})
    more = peak_memory("recover", whole) - peak_memory("recover", adapters)
    assert more == 12 * (PARAMETERS - 6 * BLOCK)
    longer = setting(recovery={"kind": "distill", "train": "lora", **TRAINED, "tokens": 256})
    assert peak_memory("recover", longer) > peak_memory("recover", adapters)
    assert scratch("recover", whole) > scratch("recover", adapters) == 0


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

    of_a_block = 4 * 1024 * (23 * 576 + 3 * 1536) * 4
    assert trained(False) - trained(True) == 29 * of_a_block - 4 * 1024 * 30 * 576 * 4


def test_healing_keeps_what_it_found_for_each_block_after_the_cut() -> None:
    def healed(first: int, **more: Any) -> int:
        drop, recovery = list(range(first, first + 6)), {**HEALED["recovery"], **more}
        return peak_memory("recover", setting(pruning={"kind": "depth", "drop": drop}, recovery=recovery))

    of_a_block = 4 * 576 * (1536 + 576)
    assert healed(6) - healed(16) == 10 * of_a_block
    assert healed(6) - healed(6, refit="none") == 18 * of_a_block
    longer = healed(6, samples=4096) - healed(6, samples=2048)
    assert longer == 2048 * 128 * 4 * 576 * 4  # states alone


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
    assert peak_memory("benchmark", also) - peak_memory("benchmark", timed) == 2 * 4 * left


def test_what_is_published() -> None:
    job = setting(quantise=[{"kind": "int8"}, {"kind": "gguf", "type": "Q4_0"}])
    left = PARAMETERS - 6 * BLOCK
    assert job.removal is not None
    pruned = pruned_size(job.model, job.removal, width=4).bytes
    assert published("prune", job, pruned_bytes=pruned, file_bytes=1000) == 4 * left + 1000 + (1 << 20)
    quantised = published("quantise", job, pruned_bytes=pruned, file_bytes=None)
    assert quantised is not None
    assert left < quantised < 2 * left
    assert published("prune", job, pruned_bytes=None, file_bytes=None) is None
