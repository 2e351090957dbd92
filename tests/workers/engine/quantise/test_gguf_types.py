"""Which tensor gets which type: as in files that llama.cpp's own quantiser made, and by its rules."""

from __future__ import annotations

from typing import Any, get_args

import gguf
import pytest

from secateur.contract.gguf_kinds import FILE_KINDS, SIZES, Place, fitting
from secateur.contract.options.quantise import GGUF_TYPES
from workers.engine.checkpoints.gguf_file import BLOCK_SIZES
from workers.engine.quantise.gguf_types import TENSOR_TYPES, Kind, bits, substitute


def place(
    name: str, columns: int = 4096, *, blocks: int = 32, shares: int = 4, experts: int = 0, tied: bool = False
) -> Place:
    return Place(name=name, shape=(64, columns), blocks=blocks, shares=shares, experts=experts, tied=tied)


def test_the_options_name_the_kinds() -> None:
    assert list(FILE_KINDS) == list(get_args(GGUF_TYPES))
    for name, kind in FILE_KINDS.items():
        number = "ALL_F32" if name == "F32" else f"MOSTLY_{name}"
        assert kind.number == gguf.LlamaFileType[number].value


def test_sizes_are_those_of_the_format() -> None:
    """Of the types that are written, and no others."""
    assert {name: BLOCK_SIZES[int(Kind[name])] for name in TENSOR_TYPES} == SIZES


def test_a_q4_k_m_of_gemma_3() -> None:
    """As Gemma-3-270M's file by llama.cpp has them: 18 blocks, rows of 640 that no super-block fills."""
    more = [0, 1, 4, 7, 10, 13, 15, 16, 17]
    choose = FILE_KINDS["Q4_K_M"].type_of
    for block in range(18):
        rows = {"attn_q": 640, "attn_k": 640, "attn_v": 640, "attn_output": 1024, "ffn_up": 640, "ffn_down": 2048}
        found = {
            part: choose(place(f"blk.{block}.{part}.weight", columns, blocks=18, tied=True))
            for part, columns in rows.items()
        }
        finer = block in more
        assert found == {
            **{"attn_q": "Q5_0", "attn_k": "Q5_0", "ffn_up": "Q5_0", "attn_output": "Q4_K"},
            **{"attn_v": "Q8_0" if finer else "Q5_0", "ffn_down": "Q6_K" if finer else "Q4_K"},
        }
    assert choose(place("token_embd.weight", 640, blocks=18, tied=True)) == "Q8_0"


@pytest.mark.parametrize(
    ("kind", "name", "settings", "expected"),
    [
        ("Q4_K_M", "token_embd.weight", {}, "Q4_K"),
        ("Q4_K_M", "token_embd.weight", {"tied": True}, "Q6_K"),
        ("Q4_K_M", "output.weight", {}, "Q6_K"),
        ("Q2_K", "output.weight", {}, "Q6_K"),
        ("Q2_K", "blk.9.attn_v.weight", {}, "Q4_K"),
        ("Q2_K", "blk.9.attn_v.weight", {"shares": 1}, "Q3_K"),
        ("Q2_K", "blk.9.attn_output.weight", {}, "Q3_K"),
        ("Q2_K", "blk.9.ffn_gate.weight", {}, "Q2_K"),
        ("Q3_K_M", "blk.1.attn_v.weight", {}, "Q5_K"),
        ("Q3_K_M", "blk.2.attn_v.weight", {}, "Q4_K"),
        ("Q3_K_M", "blk.1.ffn_down.weight", {}, "Q5_K"),
        ("Q3_K_M", "blk.2.ffn_down.weight", {}, "Q4_K"),
        ("Q3_K_M", "blk.9.attn_output.weight", {}, "Q4_K"),
        ("Q3_K_S", "blk.0.ffn_down.weight", {}, "Q3_K"),
        ("Q4_K_S", "blk.3.attn_v.weight", {}, "Q5_K"),
        ("Q4_K_S", "blk.4.attn_v.weight", {}, "Q4_K"),
        ("Q4_K_S", "blk.3.ffn_down.weight", {}, "Q5_K"),
        ("Q4_K_S", "blk.4.ffn_down.weight", {}, "Q4_K"),
        ("Q4_K_S", "blk.0.attn_v.weight", {"blocks": 80}, "Q5_K"),
        ("Q4_K_S", "blk.40.attn_v.weight", {"blocks": 80}, "Q5_K"),  # the 70B model shares its values widely
        ("Q5_K_M", "blk.0.ffn_down.weight", {}, "Q6_K"),
        ("Q5_K_M", "blk.4.ffn_down.weight", {}, "Q5_K"),
        ("Q5_K_S", "blk.0.ffn_down.weight", {}, "Q5_K"),
        ("Q6_K", "blk.0.attn_q.weight", {}, "Q6_K"),
        ("Q4_K_M", "blk.9.attn_k.weight", {"experts": 8}, "Q8_0"),
        ("Q4_K_M", "blk.9.attn_output.weight", {"experts": 8}, "Q5_K"),
        ("Q4_K_M", "blk.9.ffn_gate_inp.weight", {"experts": 8}, "F32"),
        ("Q4_K_M", "blk.0.ffn_down_exps.weight", {"experts": 64}, "Q6_K"),
        ("Q4_1", "token_embd.weight", {}, "Q8_0"),
        ("Q4_1", "blk.0.ffn_down.weight", {}, "Q4_1"),
        ("Q4_K_M", "blk.9.ffn_up.weight", {"columns": 80}, "F16"),
        ("Q5_K_M", "blk.9.ffn_up.weight", {"columns": 96}, "Q5_1"),
    ],
)
def test_a_tensor(kind: str, name: str, settings: dict[str, Any], expected: str) -> None:
    assert FILE_KINDS[kind].type_of(place(name, **settings)) == expected


def test_what_stands_in_for_a_type_is_as_fine() -> None:
    for kind in gguf.GGML_QUANT_SIZES:
        if kind.name not in TENSOR_TYPES and not kind.name.startswith(("I8", "I16", "I32", "I64", "F64", "Q8_K")):
            for columns in (256, 96, 40):
                found = substitute(kind.name, columns)
                assert bits(found) >= bits(kind.name)
                assert columns % gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[found]][0] == 0
    assert substitute("IQ4_NL", 256) == "Q4_K"
    assert substitute("IQ4_NL", 96) == "Q4_0"
    assert fitting("Q4_K", 96) == "Q5_0"
    assert fitting("Q4_0", 40) == "F16"
