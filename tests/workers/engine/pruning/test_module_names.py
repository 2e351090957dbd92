"""A quantiser's rules pick out the same modules under their new numbers, found by matching before and after."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from compressed_tensors.utils.match import match_name
from transformers import PreTrainedModel
from transformers.quantizers.quantizers_utils import should_convert_module

from secateur.contract.errors import UnsupportedModel
from workers.engine.checkpoints.checkpoint import Checkpoint
from workers.engine.pruning.depth import prune_depth
from workers.engine.pruning.module_names import Modules, module_names, renumber_module_names

COUNT = 24
PARTS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm")
TENSORS = [f"model.layers.{block}.{part}.weight" for block in range(COUNT) for part in PARTS]
OUTER = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]


def modules_without(*drop: int, tensors: Sequence[str] = (*TENSORS, *OUTER), count: int = COUNT) -> Modules:
    keep = [block for block in range(count) if block not in drop]
    return module_names(tensors, ("model.layers",), {old: new for new, old in enumerate(keep)})


MODULES = modules_without(0, 2)


def compressed(rule: str, name: str) -> bool:
    return bool(match_name(name, rule))


def gptq(rule: str, name: str) -> bool:
    return re.match(rule.removeprefix("-:").removeprefix("+:"), name) is not None


def transformers_skips(rule: str, name: str) -> bool:
    return not should_convert_module(name, [rule])


def part_of(rule: str, name: str) -> bool:
    return rule in name


def check(settings: dict[str, Any], rules: Callable[[Any], list[str]], *ways: Callable[[str, str], bool]) -> list[str]:
    """The new rules, which must pick out what the old ones did."""
    new = renumber_module_names(settings, MODULES)
    for way in ways:
        before = {name for name in MODULES.names if any(way(rule, name) for rule in rules(settings))}
        after = {name for name in MODULES.after.values() if any(way(rule, name) for rule in rules(new))}
        assert after == {MODULES.after[name] for name in before if name in MODULES.after}
    return rules(new)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (r"re:model\.layers\.5\.mlp.*", r"re:model\.layers\.3\.mlp.*"),
        (r"re:.*layers\.[0-9]+\.mlp", r"re:.*layers\.[0-9]+\.mlp"),
        (r"re:.*\.mlp\..*", r"re:.*\.mlp\..*"),
        (r"re:.*layers\.(\d+)\.self_attn.*", r"re:.*layers\.(\d+)\.self_attn.*"),
        (r"re:.*layers\.1\d\.mlp.*", None),
        (r"re:.*layers\.[0-9]\.mlp.*", None),
        (r"re:.*layers\.(0|1|2|23)\.mlp\.up_proj", None),
        (r"re:model.layers.[1-3].mlp", None),
        (r"re:.*\.(?:1[0-5])\.(mlp|self_attn)\..*", None),
        (r"re:.*\.\d\d\..*down_proj$", None),
        (r"re:.*[13579]\.mlp.*", None),
        (r"re:model\.layers\.(?!5\.).*", None),
        (r"re:(?i)MODEL\.layers\.1\d\.mlp.*", None),
        (r"re:(?s)model\.layers\.(3|9)\.mlp.*", r"re:(?s)model\.layers\.(?:1|7)\.mlp.*"),
        (r"re:(?x) model [.] layers [.] 5 [.] mlp .*", None),
        (r"re:model\.layers\.7\.mlp|model\.layers\.1[0-3]\.self_attn", None),
        (r"re:.*layers\.2[0-3]\.(?!mlp).*", r"re:.*layers\.(?:18|19|20|21)\.(?!mlp).*"),
        ("model.layers.5.mlp.up_proj", "model.layers.3.mlp.up_proj"),
        ("model.layers.11.mlp.up_proj", "model.layers.9.mlp.up_proj"),
        ("Linear", "Linear"),
        (r"re:vision.*\.1\d\..*", r"re:vision.*\.1\d\..*"),
    ],
)
def test_compressed_tensors(rule: str, expected: str | None) -> None:
    settings = {"quant_method": "compressed-tensors", "ignore": ["lm_head", rule]}
    found = check(settings, lambda settings: list(settings["ignore"]), compressed)
    assert found[0] == "lm_head"
    if expected is not None:
        assert found[1:] == [expected]


@pytest.mark.parametrize(
    "rule",
    [
        r"-:.*\.18\..*",
        r"-:.*\.1\d\..*",
        r"+:model\.layers\.(4|5|6)\..*",
        r"-:model.layers.7.mlp.*",
        r"-:.*_proj",
        r"model\.layers\.2[0-3]\.self_attn",
        r"+:.*\.18\.mlp\.down_proj.*",
    ],
)
def test_gptq_dynamic(rule: str) -> None:
    settings = {"quant_method": "gptq", "bits": 4, "dynamic": {rule: {"bits": 8}}}
    check(settings, lambda settings: list(settings["dynamic"]), gptq)
    new = renumber_module_names(settings, MODULES)
    assert set(map(json.dumps, new["dynamic"].values())) == {'{"bits": 8}'}
    assert new["bits"] == 4


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (r"-:.*\.18\.self_attn\.qkv_proj", r"-:.*\.16\.self_attn\.qkv_proj"),
        (r"-:.*\.(3|5)\.self_attn\.qkv_proj", r"-:.*\.(?:1|3)\.self_attn\.qkv_proj"),
        (r"-:.*layers\.1\d\.mlp\..*", r"-:.*layers\.(?:8|9|10|11|12|13|14|15|16|17)\.mlp\..*"),
        (r"+:model\.layers\.[0-9]\.(mlp|self_attn)\..*", r"+:model\.layers\.(?:0|1|2|3|4|5|6|7)\.(mlp|self_attn)\..*"),
    ],
)
def test_what_servers_fuse_is_picked_out_as_before(rule: str, expected: str) -> None:
    (new,) = renumber_module_names({"quant_method": "gptq", "dynamic": {rule: {}}}, MODULES)["dynamic"]
    assert new == expected
    for block in range(COUNT):
        after = MODULES.new_name(f"model.layers.{block}.mlp")
        for fused in ("mlp.gate_up_proj", "self_attn.qkv_proj"):
            was = gptq(rule, f"model.layers.{block}.{fused}")
            assert after is None or gptq(new, f"{after.removesuffix('mlp')}{fused}") == was


@pytest.mark.parametrize(
    "rule", [r"layers\.1\d\.mlp", r"\.5\.mlp\.up_proj", "model.layers.5.mlp.up_proj", r".*\.[0-9]\..*"]
)
def test_auto_round_searches(rule: str) -> None:
    def searches(rule: str, name: str) -> bool:
        return rule == name or bool(set("*\\[") & set(rule) and re.search(rule, name))

    settings = {"quant_method": "auto-round", "extra_config": {rule: {"bits": 8}}}
    check(settings, lambda settings: list(settings["extra_config"]), searches)


@pytest.mark.parametrize("key", ["modules_to_not_convert", "llm_int8_skip_modules", "ignored_layers", "exclude"])
@pytest.mark.parametrize(
    "rules",
    [
        ["lm_head", "model.layers.5.mlp.up_proj"],
        ["layers.0.mlp", "layers.1.mlp", "layers.12.mlp"],
        [r"model\.layers\.1\d\.mlp"],
        ["model.layers.[4-6].mlp"],
        ["model.layers.3.self_attn", "mlp.down_proj"],
        ["model.layers.22", "model.layers.23"],
        [".18.mlp"],
    ],
)
def test_names_parts_of_names_and_expressions(key: str, rules: list[str]) -> None:
    check({"quant_method": "awq", key: rules}, lambda settings: list(settings[key]), transformers_skips, part_of)


@pytest.mark.parametrize("pattern", ["*.layers.1?.mlp*", "model.layers.[0-3].mlp*", "*layers.7*"])
def test_globs(pattern: str) -> None:
    def globs(rule: str, name: str) -> bool:
        return fnmatch.fnmatchcase(name, rule)

    settings = {"quant_method": "modelopt", "exclude_modules": [pattern]}
    check(settings, lambda settings: list(settings["exclude_modules"]), globs)


def test_what_picked_out_dropped_blocks_alone_goes() -> None:
    settings = {
        "ignore": ["model.layers.2.mlp.up_proj", r"re:.*layers\.(0|2)\..*", "lm_head"],
        "dynamic": {r"-:.*\.2\..*": {}, r"-:.*\.5\..*": {"bits": 8}},
        "bits": 4,
        "version": "0.1.2",
        "nested": [["model.layers.0.mlp.up_proj"], ["self_attn.q_proj"]],
    }
    assert renumber_module_names(settings, MODULES) == {
        "ignore": ["lm_head"],
        "dynamic": {r"-:.*\.3\..*": {"bits": 8}},
        "bits": 4,
        "version": "0.1.2",
        "nested": [[], ["self_attn.q_proj"]],
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"modules_to_not_convert": ["model.layers.1"]},  # to some readers a part of "model.layers.10" too
        {"layers_to_skip": [3, 5]},
        {"blocks": {"3": {"bits": 8}}},
        {"ignore": [r"re:.*layers\.(1|2)\.unknown\..*"]},
        {"dynamic": {r"-:.*\.(3|5)\.mlp\.shared\..*": {}}},  # modules of no file and no server
        {"bits": {"0": 4, "1": 8}},
        {"bits_per_layer": [4, 8, 16, 32] * 6},
        {"bits": [4.5, 8.0] * 12},
        {"dtypes": ["fp8", "bf16"] * 12},
    ],
)
def test_what_cannot_be_written_for_the_new_numbers_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel, match="cannot be written for the new numbers") as caught:
        renumber_module_names(settings, MODULES)
    assert caught.value.errors[0].pointer == "model"


@pytest.mark.parametrize(
    "settings",
    [
        {"weight_block_size": [128, 128], "modules_in_block_to_quantize": [["self_attn.q_proj"], ["mlp.up_proj"]]},
        {"config_groups": {"0": {"targets": ["Linear"], "weights": {"num_bits": 4, "actorder": None}}}},
        {
            "ignore": [
                "lm_head",
                r"re:visual\.blocks\..*",
                r"re:.*layers\.1\.self_attn\.qkv_proj".replace("1", "[0-9]+"),
            ]
        },
        {"ignore": [f"visual.blocks.{block}.attn" for block in range(COUNT)]},
    ],
)
def test_what_has_nothing_to_do_with_the_numbers_of_blocks_stays(settings: dict[str, Any]) -> None:
    assert renumber_module_names(settings, MODULES) == settings


@pytest.mark.parametrize("stack", ["transformer.h", "h", "gpt_neox.layers"])
def test_the_stack_is_the_one_on_disk_whatever_modules_are_called(stack: str) -> None:
    tensors = [f"{stack}.{block}.{part}.weight" for block in range(COUNT) for part in PARTS]
    keep = [block for block in range(COUNT) if block not in (0, 2)]
    modules = module_names(tensors, ("model.layers", "layers"), {old: new for new, old in enumerate(keep)})
    for rule in (r"re:.*\.1\d\.mlp.*", r"re:.*\.5\.mlp.*", r"re:.*\.[0-9]\.self_attn\.q_proj"):
        (new,) = renumber_module_names({"quant_method": "compressed-tensors", "ignore": [rule]}, modules)["ignore"]
        assert new != rule
        before = {name for name in tensors if compressed(rule, name.removesuffix(".weight"))}
        after = {name for name in tensors if compressed(new, name.removesuffix(".weight"))}
        numbers = {name: int(name.removeprefix(f"{stack}.").partition(".")[0]) for name in tensors}
        expected = {
            name.replace(f"{stack}.{numbers[name]}.", f"{stack}.{keep.index(numbers[name])}.")
            for name in before
            if numbers[name] in keep
        }
        assert after == expected


def test_numbers_of_experts_are_not_those_of_blocks() -> None:
    tensors = [f"model.layers.{b}.mlp.experts.{e}.up_proj.weight" for b in range(8) for e in range(8)]
    modules = modules_without(1, tensors=tensors, count=8)
    for rule in (r"-:.*\.5\.up_proj", r"-:.*experts\.[0-3]\..*", r"-:.*\.5\..*"):
        settings = {"quant_method": "gptq", "dynamic": {rule: {}}}
        (new,) = renumber_module_names(settings, modules)["dynamic"]
        before = {name for name in modules.names if gptq(rule, name)}
        after = {name for name in modules.after.values() if gptq(new, name)}
        assert after == {modules.after[name] for name in before if name in modules.after}


@pytest.mark.parametrize("file", ["config.json", "quantize_config.json"])
def test_in_the_files_of_a_checkpoint(
    file: str, make_model: Callable[..., PreTrainedModel], save_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = save_model(make_model("llama", num_hidden_layers=14))
    settings = {"quant_method": "gptq", "bits": 4, "dynamic": {r"-:.*layers\.[0-9]\.mlp.*": {}}}
    config = json.loads((folder / "config.json").read_text())
    if file == "config.json":
        settings = {**config, "quantization_config": settings}
    (folder / file).write_text(json.dumps(settings))
    prune_depth(Checkpoint.open(folder), tmp_path / "pruned", drop=[3, 5])
    new = json.loads((tmp_path / "pruned" / file).read_text())
    (rule,) = new.get("quantization_config", new)["dynamic"]
    picked = {block for block in range(12) if gptq(rule, f"model.layers.{block}.mlp.up_proj")}
    assert picked == set(range(8))  # the former 0 to 9 without 3 and 5
    assert not gptq(rule, "model.layers.1.self_attn.q_proj")
