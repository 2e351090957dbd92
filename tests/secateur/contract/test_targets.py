"""How many blocks a target of size takes: against a plain count, and refused where no number does."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from secateur.contract.errors import FieldError, InvalidInput
from secateur.contract.gate_needs import never_passed
from secateur.contract.measurements import Interval
from secateur.contract.models.formulas import BlockCount, ParameterCount
from secateur.contract.options.pruning import DepthPruning
from secateur.contract.options.target import Target
from secateur.contract.spec import CompressionSpec
from secateur.contract.target_figures import may_reach, surely_reaches
from secateur.contract.targets import Sizes, blocks_for_size, limit_of
from secateur.contract.validation_errors import field_errors

EVEN = Sizes([100] * 30, 1000, 4000)


@pytest.mark.parametrize(
    ("parameters", "count"),
    [(3999, 1), (3900, 1), (3899, 2), (0.8, 8), (0.9, 4), (0.975, 1), (0.999, 1), (1600, 24), (0.4, 24)],
)
def test_as_many_go_as_it_takes_and_no_more(parameters: float, count: int) -> None:
    assert blocks_for_size(Target(parameters=parameters), EVEN, plus=True) == count
    limit = parameters if parameters >= 1 else parameters * 4000
    assert 4000 - 100 * count <= limit < 4000 - 100 * (count - 1)


def test_without_the_plus_rule_one_block_stays() -> None:
    assert blocks_for_size(Target(parameters=1100), EVEN, plus=False) == 29


def test_blocks_of_different_sizes_go_in_a_number_that_is_enough_whichever_they_are() -> None:
    sizes = Sizes([1, 50, 50, 50, 10, 20, 30, 40, 1, 1], 0, 253)
    assert blocks_for_size(Target(parameters=253 - 10), sizes, plus=True) == 1, "the smallest that may go has 10"
    assert blocks_for_size(Target(parameters=253 - 11), sizes, plus=True) == 2
    assert blocks_for_size(Target(parameters=253 - 31), sizes, plus=True) == 3
    assert blocks_for_size(Target(parameters=253 - 100), sizes, plus=True) == 4


def test_what_goes_with_any_block_is_counted() -> None:
    sizes = Sizes([10, 10, 10, 10], 5, 65)  # 20 go in any case
    assert blocks_for_size(Target(bytes=35), sizes, plus=False) == 1
    assert blocks_for_size(Target(bytes=34), sizes, plus=False) == 2


def test_sizes_of_a_count() -> None:
    count = ParameterCount([BlockCount(1, 2), BlockCount(1, 2, shared=1)], embedding=10, head=5, other=1)
    assert Sizes.of(count) == Sizes([3, 4], 16, 23)
    assert Sizes.of(count, width=2) == Sizes([6, 8], 32, 46)


def test_a_share_is_rounded_to_what_is_no_more() -> None:
    assert limit_of(Target(parameters=0.333), 100) == 33
    assert limit_of(Target(parameters=33), 100) == 33


def refused(target: dict[str, Any], sizes: Sizes = EVEN, *, plus: bool = True) -> FieldError:
    with pytest.raises(InvalidInput) as caught:
        blocks_for_size(Target(**target), sizes, plus=plus)
    (error,) = caught.value.errors
    return error


@pytest.mark.parametrize("target", [{"parameters": 4000}, {"parameters": 10**12}, {"bytes": 4000}])
def test_what_the_original_is_already(target: dict[str, Any]) -> None:
    error = refused(target)
    (figure,) = target
    assert (error.pointer, error.value) == (f"/pruning/target/{figure}", target[figure])
    assert "no more than 4,000" in error.detail
    assert error.expected == "fewer than 4,000, or a share below 1"


def test_what_not_even_the_shallowest_model_is() -> None:
    error = refused({"parameters": 1599})
    assert error.detail == 'the model has 1,600 parameters even without 24 of its 30 blocks, and the "+" rule keeps 6'
    assert error.expected == 'at least 1,600, or "plus": false in `scoring`'
    assert refused({"bytes": 0.3}).expected == 'at least 0.4, or "plus": false in `scoring`'
    shallowest = refused({"parameters": 1}, plus=False)
    assert shallowest.detail == "the model has 1,100 parameters even without 29 of its 30 blocks, and one has to stay"
    assert shallowest.expected == "at least 1,100"


def test_models_of_which_no_block_may_go() -> None:
    small = Sizes([100] * 6, 0, 600)
    assert refused({"parameters": 0.9}, small).expected == 'a larger model, or "plus": false in `scoring`'
    one = refused({"parameters": 0.9}, Sizes([100], 0, 100), plus=False)
    assert one.expected == "a model of at least 2 blocks"


@pytest.mark.parametrize(
    ("pruning", "pointer", "part"),
    [
        ({"target": {"parameters": 0.8}, "blocks": 3}, "/pruning", "not blocks and target"),
        ({"target": {"parameters": 0.8}, "ratio": 0.2}, "/pruning", "not ratio and target"),
        ({"target": {"parameters": 0.8}, "drop": [3]}, "/pruning", "not drop and target"),
        ({"target": {}}, "/pruning/target", "not none"),
        ({"target": {"parameters": 0.8, "bytes": 0.8}}, "/pruning/target", "not parameters and bytes"),
        ({"target": {"parameters": 0}}, "/pruning/target/parameters", "above 0"),
        ({"target": {"parameters": -5}}, "/pruning/target/parameters", "above 0"),
        ({"target": {"parameters": 1.5}}, "/pruning/target/parameters", "neither a share"),
        ({"target": {"bytes": math.nan}}, "/pruning/target/bytes", "neither infinite nor NaN"),
        ({"target": {"bytes": math.inf}}, "/pruning/target/bytes", "neither infinite nor NaN"),
        ({"target": {"parametres": 0.5}}, "/pruning/target/parametres", "did you mean 'parameters'?"),
        ({"target": 0.8}, "/pruning/target", "a JSON object"),
        ({"target": {"speedup": 1}}, "/pruning/target/speedup", "above 1"),
        ({"target": {"speedup": 0.7}}, "/pruning/target/speedup", "above 1"),
        ({"target": {"speedup": math.nan}}, "/pruning/target/speedup", "neither infinite nor NaN"),
        ({"target": {"latency_ms": 0}}, "/pruning/target/latency_ms", "above 0"),
        ({"target": {"tokens_per_second": -1}}, "/pruning/target/tokens_per_second", "above 0"),
        ({"target": {"memory": 1.5}}, "/pruning/target/memory", "neither a share"),
        ({"target": {"speedup": 1.3, "batch_size": 0}}, "/pruning/target/batch_size", "at least 1"),
        ({"target": {"parameters": 0.8, "batch_size": 1}}, "/pruning/target/batch_size", "for targets of speed"),
        ({"target": {"memory": 0.8, "output_tokens": 128}}, "/pruning/target/output_tokens", "for targets of speed"),
        ({"target": {"batch_size": 1}}, "/pruning/target", "not none"),
        ({"target": {"bytes": 0.8, "plan_seconds": 60}}, "/pruning/target/plan_seconds", "for targets of speed"),
        ({"target": {"speedup": 1.3, "plan_seconds": 0}}, "/pruning/target/plan_seconds", "above 0"),
        ({"constraints": {"max_kl": 0.3}, "blocks": 3}, "/pruning", "not blocks and constraints"),
        ({"constraints": {"max_kl": 0.3}, "target": {"speedup": 1.3}}, "/pruning", "not target and constraints"),
        ({"constraints": {}}, "/pruning/constraints", "none of them is given"),
        ({"constraints": {"max_accuracy_drop": 0.02}}, "/pruning/constraints", "none of them is given"),
        ({"constraints": {"max_kl": 0}}, "/pruning/constraints/max_kl", "above 0"),
        ({"constraints": {"max_kl": math.nan}}, "/pruning/constraints/max_kl", "neither infinite nor NaN"),
        (
            {"constraints": {"min_top1_agreement": 1}},
            "/pruning/constraints/min_top1_agreement",
            "above 0 and below 1",
        ),
        ({"blocks": 3, "maximise": "speedup"}, "/pruning/maximise", "for a job with `constraints`"),
        ({"blocks": 3, "minimise": "kl"}, "/pruning/minimise", "for a job with `target`"),
        ({"constraints": {"max_kl": 0.3}, "minimise": "kl"}, "/pruning/minimise", "for a job with `target`"),
        ({"constraints": {"max_kl": 0.3}, "maximise": "speed"}, "/pruning/maximise", "did you mean 'speedup'?"),
    ],
)
def test_targets_that_cannot_be_meant(pruning: dict[str, Any], pointer: str, part: str) -> None:
    body = {"model": {"source": "hub", "id": "a/b"}, "pruning": {"kind": "depth", **pruning}}
    with pytest.raises(ValidationError) as caught:
        CompressionSpec.model_validate(body)
    found = {error.pointer: error.detail for error in field_errors(CompressionSpec, caught.value.errors())}
    assert part in found[pointer]


@pytest.mark.parametrize(
    ("target", "latency", "pointer", "part"),
    [
        ({"speedup": 1.3}, None, "/pruning/target/speedup", "`latency`, which is left out"),
        ({"memory": 0.8}, None, "/pruning/target/memory", "`latency`, which is left out"),
        ({"speedup": 1.3}, {"engines": ["vllm"]}, "/pruning/target/speedup", "which its `engines` leave out"),
        (
            {"speedup": 1.3, "batch_size": 4},
            {},
            "/pruning/target/batch_size",
            "does not measure at a `batch_size` of 4",
        ),
        ({"latency_ms": 5, "output_tokens": 64}, {}, "/pruning/target/output_tokens", "`output_tokens` of 64"),
    ],
)
def test_what_is_to_be_reached_has_to_be_measured(
    target: dict[str, Any], latency: Any, pointer: str, part: str
) -> None:
    body = {
        "model": {"source": "hub", "id": "a/b"},
        "pruning": {"kind": "depth", "target": target},
        "benchmark": {"latency": latency},
    }
    with pytest.raises(ValidationError) as caught:
        CompressionSpec.model_validate(body)
    (error,) = field_errors(CompressionSpec, caught.value.errors())
    assert (error.pointer, error.value) == (pointer, list(target.values())[-1])
    assert part in error.detail


def test_a_cell_that_the_benchmark_has() -> None:
    body = {
        "model": {"source": "hub", "id": "a/b"},
        "pruning": {"kind": "depth", "target": {"speedup": 1.3, "batch_size": 4, "output_tokens": 64}},
        "benchmark": {"latency": {"batch_sizes": [1, 4], "output_tokens": [32, 64]}},
    }
    assert CompressionSpec.model_validate(body)


@pytest.mark.parametrize(
    ("target", "measured", "least"),
    [
        ({"parameters": 5}, False, False),
        ({"bytes": 0.5}, False, False),
        ({"speedup": 2}, True, True),
        ({"latency_ms": 0.5}, True, False),
        ({"tokens_per_second": 0.5}, True, True),
        ({"memory": 0.5}, True, False),
    ],
)
def test_what_a_target_is(target: dict[str, Any], measured: bool, least: bool) -> None:
    found = Target(**target)
    assert (found.measured, found.least) == (measured, least)
    (value,) = target.values()
    shares = {"bytes", "memory"}
    assert limit_of(found, 100) == (50 if found.figure in shares else value), "a speed below 1 is no share"


def test_what_its_interval_says() -> None:
    fast, quick = Target(speedup=1.3), Target(latency_ms=100)
    reading = Interval(median=1.28, low=1.25, high=1.31)
    assert (may_reach(fast, 1.3, reading), surely_reaches(fast, 1.3, reading)) == (True, False)
    assert not may_reach(fast, 1.32, reading)
    assert surely_reaches(fast, 1.25, reading)
    time = Interval(median=102, low=99, high=104)
    assert (may_reach(quick, 100, time), surely_reaches(quick, 100, time)) == (True, False)
    assert not may_reach(quick, 98, time)
    assert surely_reaches(quick, 104, time)


def test_a_search_of_the_depth_needs_one_order_of_all_blocks() -> None:
    bounded = {"kind": "depth", "constraints": {"max_kl": 0.3}, "maximise": "speedup"}
    body = {"model": {"source": "hub", "id": "a/b"}, "pruning": bounded}
    for more, pointer in (
        ({"scoring": {"criterion": "greedy"}}, "/scoring/criterion"),
        ({"gates": {"max_kl": 0.5}}, "/gates/max_kl"),
    ):
        with pytest.raises(ValidationError) as caught:
            CompressionSpec.model_validate({**body, **more})
        (error,) = field_errors(CompressionSpec, caught.value.errors())
        assert error.pointer == pointer
    assert CompressionSpec.model_validate(body | {"gates": {"min_speedup": 1.1}})


def test_constraints_are_judged_as_gates() -> None:
    body = {
        "model": {"source": "hub", "id": "a/b"},
        "pruning": {"kind": "depth", "constraints": {"max_kl": 0.3, "max_accuracy_drop": 0.02}},
        "gates": {"min_speedup": 1.1},
        "benchmark": {"fidelity": {"enabled": False}},
    }
    spec = CompressionSpec.model_validate(body)
    judged = spec.judged
    assert (judged.max_kl, judged.max_accuracy_drop, judged.min_speedup) == (0.3, 0.02, 1.1)
    pointers = [error.pointer for error in never_passed(spec)]
    assert pointers == ["/pruning/constraints/max_kl", "/pruning/constraints/max_accuracy_drop"]


def test_a_target_stands_for_a_number_of_blocks() -> None:
    pruning = DepthPruning(target=Target(parameters=0.8))
    assert pruning.target is not None
    assert (pruning.target.figure, pruning.target.value) == ("parameters", 0.8)
    assert DepthPruning.model_validate_json(pruning.model_dump_json()) == pruning
