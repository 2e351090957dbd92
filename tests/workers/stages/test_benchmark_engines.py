"""Speed under llama.cpp and vLLM as jobs measure it, with stand-ins whose times follow from the sizes of the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secateur.contract.errors import InvalidInput
from secateur.contract.measurements import RECOVERED_FILE, EngineCell, Measurement
from secateur.contract.spec import CompressionSpec
from tests.fixtures.engines import VLLM, no_engines, put_llama_bench, put_package
from tests.fixtures.tiny_gguf import write_tiny_gguf
from tests.fixtures.whole_job import Job, run_job, tiny_llama
from workers.stages.benchmark_engines import Contest, fitting

LATENCY: dict[str, Any] = {"input_tokens": 4, "output_tokens": [5], "warmup": 1, "runs": 3}
SPEC: dict[str, Any] = {
    "model": {"source": "local", "path": "tiny.Q8_0.gguf"},
    "scoring": {"criterion": "magnitude", "plus": False},
    "pruning": {"kind": "depth", "drop": [1, 2]},
    "recovery": {"kind": "none"},
    "benchmark": {
        "latency": {**LATENCY, "engines": ["llama_cpp"]},
        "perplexity": None,
        "fidelity": {"enabled": False},
        "samples": None,
        "generation": None,
    },
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    model = tiny_llama(vocab_size=288, hidden_size=64, intermediate_size=96)
    write_tiny_gguf(tmp_path / "tiny.Q8_0.gguf", model, quantisation="Q8_0")
    return tmp_path


def timed_by(*engines: str, **latency: Any) -> dict[str, Any]:
    asked = {**LATENCY, **latency, **({"engines": list(engines)} if engines else {})}
    return {**SPEC["benchmark"], "latency": asked}


def measured(results: dict[str, Any]) -> dict[str, Measurement]:
    return {variant.variant: variant for variant in results["benchmark"].variants}


def only(cells: list[EngineCell]) -> EngineCell:
    (cell,) = cells
    return cell


def test_the_files_of_a_gguf_job_are_timed_against_the_one_that_came(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = put_llama_bench(root / "bin", monkeypatch)
    gates = {"min_llama_cpp_speedup": 1.05}
    results, folders = run_job(root, {**SPEC, "gates": gates})
    found = measured(results)
    sizes = [(root / "tiny.Q8_0.gguf").stat().st_size, results["prune"].gguf.bytes_after]
    cell = only(found["pruned"].llama_cpp)
    assert cell.speedup is not None
    assert cell.speedup.median == pytest.approx(sizes[0] / sizes[1])
    assert cell.build == "llama-bench, build 5163 (8cf427ff)"
    assert cell.against == "the Q8_0 file that came in"
    assert only(found["original"].llama_cpp).tokens_per_second.median == pytest.approx(
        5e9 / (8 * sizes[0])  # five tokens in the time of the prompt's four and four more
    )
    assert found["pruned"].latency == []  # transformers was not asked for
    runs = [json.loads(line) for line in log.read_text().splitlines()]
    assert [Path(run["-m"]).name for run in runs[:5]] == [
        *["tiny.Q8_0.gguf", "tiny.Q8_0-pruned.gguf"],
        *["tiny.Q8_0.gguf", "tiny.Q8_0-pruned.gguf", "tiny.Q8_0.gguf"][::-1],
    ]
    assert {(run["-t"], run["-p"], run["-n"]) for run in runs} == {("1", "4", "4")}
    report = results["report"]
    (gate,) = report.gates
    assert gate.passed, gate.message
    assert gate.metric.startswith("speedup under llama.cpp (batch 1, 4 + 5 tokens, against the Q8_0 file")
    page = (folders["report"] / "report.html").read_text()
    assert "Speed under llama.cpp, batch 1, 4 + 5 tokens, against the Q8_0 file that came in" in page
    assert "Prompt tokens per second under llama.cpp" in page


def test_a_rounded_recovered_file_is_timed_once_and_is_the_recovered_model_s(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = put_llama_bench(root / "bin", monkeypatch)
    recovery = {"kind": "healing", "samples": 8, "tokens": 16}
    job = Job(root, CompressionSpec.model_validate({**SPEC, "recovery": recovery}))
    for name in ("check", "prune", "recover", "benchmark"):
        job.run(name)
    found = measured(job.results)
    assert RECOVERED_FILE in found
    assert found["recovered"].llama_cpp == found[RECOVERED_FILE].llama_cpp != []
    files = {Path(json.loads(line)["-m"]).name for line in log.read_text().splitlines()}
    assert files == {"tiny.Q8_0.gguf", "tiny.Q8_0-pruned.gguf", "tiny.Q8_0-recovered.gguf"}
    notes = job.results["benchmark"].notes
    assert any(f"Of {RECOVERED_FILE} the values" in n and "Memory under llama.cpp was not" in n for n in notes)


def test_another_model_is_timed_in_the_types_that_it_is_quantised_to(
    tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_checkpoint().parent
    log = put_llama_bench(root / "bin", monkeypatch)
    spec = {
        **SPEC,
        "model": {"source": "local", "path": "tiny"},
        "pruning": {"kind": "depth", "drop": [1]},
        "quantise": [{"kind": "gguf", "type": "Q8_0"}, {"kind": "int8"}, {"kind": "gguf", "type": "F16"}],
        "benchmark": timed_by("llama_cpp", batch_sizes=[1, 2]),
    }
    results, _ = run_job(root, spec)
    found = measured(results)
    assert [cell.against for cell in found["original"].llama_cpp] == ["the original in Q8_0", "the original in F16"]
    assert [cell.against for cell in found["pruned"].llama_cpp] == ["the original in Q8_0", "the original in F16"]
    assert only(found["pruned-gguf-f16"].llama_cpp).against == "the original in F16"
    assert found["pruned-int8"].llama_cpp == []
    files = [Path(json.loads(line)["-m"]) for line in log.read_text().splitlines()]
    assert {file.name for file in files} == {
        *("original-Q8_0.gguf", "original-F16.gguf"),
        *("model-Q8_0.gguf", "model-F16.gguf"),
    }
    assert [file for file in files if file.name.startswith("original") and file.exists()] == []  # of the timing alone
    assert "llama.cpp was timed with one sequence at a time." in results["benchmark"].notes
    page = results["report"].model_dump_json()
    assert "file_bytes" in page


def test_what_is_installed_is_used_unless_engines_are_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_llama_bench(root / "bin", monkeypatch)
    results, _ = run_job(root, {**SPEC, "benchmark": timed_by()})
    assert measured(results)["pruned"].latency
    assert measured(results)["pruned"].llama_cpp
    results, _ = run_job(root, {**SPEC, "benchmark": timed_by("transformers")}, work="again")
    assert measured(results)["pruned"].latency
    assert measured(results)["pruned"].llama_cpp == []


def test_without_engines_a_note_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_engines(monkeypatch)
    results, _ = run_job(root, {**SPEC, "benchmark": timed_by()})
    (note,) = [note for note in results["benchmark"].notes if "llama-bench" in note]
    assert note.startswith("The GGUF files were not timed under llama.cpp, which is not on this worker; it takes")


@pytest.mark.parametrize(
    ("engines", "detail"),
    [(["llama_cpp"], "llama.cpp is not on this worker."), (["transformers", "vllm"], "vLLM is not on this worker.")],
)
def test_one_that_is_named_and_missing_is_told_before_the_work(
    engines: list[str], detail: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_engines(monkeypatch)
    job = Job(root, CompressionSpec.model_validate({**SPEC, "benchmark": timed_by(*engines)}))
    with pytest.raises(InvalidInput) as caught:
        job.run("check")
    (error,) = caught.value.errors
    assert (error.pointer, error.detail, error.value) == ("/benchmark/latency/engines", detail, engines)


def test_llama_cpp_has_nothing_to_time_without_files(
    tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_checkpoint().parent
    put_llama_bench(root / "bin", monkeypatch)
    job = Job(root, CompressionSpec.model_validate({**SPEC, "model": {"source": "local", "path": "tiny"}}))
    with pytest.raises(InvalidInput, match="of which this job makes none") as caught:
        job.run("check")
    assert [error.pointer for error in caught.value.errors] == ["/benchmark/latency/engines"]


def test_a_crash_costs_its_figures_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = "if 'pruned' in given['-m']: sys.exit('error: unknown architecture')"
    put_llama_bench(root / "bin", monkeypatch, more=more)
    spec = {**SPEC, "benchmark": timed_by("transformers", "llama_cpp"), "gates": {"min_llama_cpp_speedup": 1}}
    results, _ = run_job(root, spec)
    found = measured(results)
    assert found["pruned"].llama_cpp == found["original"].llama_cpp == []
    assert found["pruned"].latency
    assert (
        "At batch 1, 4 + 5 tokens nothing was timed under llama.cpp: it ended with exit status 1: error: unknown "
        "architecture (pruned)."
    ) in results["benchmark"].notes
    (gate,) = results["report"].gates
    assert not gate.passed


def test_files_that_do_not_fit_together_are_timed_in_pairs(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.gguf" for number in range(3)]
    for file in files:
        file.write_bytes(bytes(100))
    contest = Contest({file: [] for file in files}, "it")
    assert fitting(contest, 429) == [contest]
    assert fitting(contest, 428) == [Contest({files[0]: [], file: []}, "it") for file in files[1:]]
    (tmp_path / "folder").mkdir()
    folder = Contest({files[0]: [], tmp_path / "folder": []})  # what an engine takes of a GPU is its own share
    assert fitting(folder, 429) == [folder]


def test_vllm_times_checkpoints_in_pairs(tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = tiny_checkpoint().parent
    put_package(root / "packages", "vllm", VLLM.format(more="pass"), monkeypatch)
    spec = {
        **SPEC,
        "model": {"source": "local", "path": "tiny"},
        "pruning": {"kind": "depth", "drop": [1]},
        "quantise": [{"kind": "int8"}],
        "benchmark": timed_by("vllm", batch_sizes=[1, 2]),
    }
    results, folders = run_job(root, spec)
    found = measured(results)
    assert [(cell.batch_size, cell.build) for cell in found["original"].vllm] == [
        (1, "vLLM 0.99.0"),
        (2, "vLLM 0.99.0"),
    ]
    for name in ("pruned", "pruned-int8"):
        assert all(cell.speedup is not None for cell in found[name].vllm)
        assert len(found[name].vllm) == 2
    assert "Speed under vLLM, batch 2, 4 + 5 tokens" in (folders["report"] / "report.md").read_text()
