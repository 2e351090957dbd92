"""The form for a new job in a real browser: what it starts with, and what it sends. Needs chromium and chromedriver."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.db import jobs
from app.db.session import SessionFactory, unit_of_work
from app.main import create_app
from app.settings import Settings
from secateur.contract.spec import CompressionSpec
from tests.fixtures.browser import MISSING, Browser
from tests.fixtures.live import serving

PATIENCE = 60.0  # seconds that an answer may take on a busy machine
get, post = partial(httpx.get, timeout=PATIENCE), partial(httpx.post, timeout=PATIENCE)
READY = "return document.getElementById('submit')?.disabled === false"
BODY = "return document.getElementById('body').textContent"
CHOOSE = (
    "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
    "s.dispatchEvent(new Event('change', {bubbles: true}));"
)
COPIES = {"curl": ("bash", "-c"), "cli": ("bash", "-c"), "python": (sys.executable, "-c")}  # and what runs each
TYPE = CHOOSE.replace("change", "input")
BLEND = {
    "source": "blend",
    "parts": [
        {"text": {"source": "self", "temperature": 0.5}, "weight": 2.0},
        {"text": {"source": "answers", "prompts": {"source": "local", "path": "prompts.txt"}}},
    ],
}
UNLIKE: dict[str, dict[str, Any]] = {
    "a preset, and what undoes parts of it": {
        "preset": "shortened_llama",
        "pruning": {"kind": "depth", "drop": [3, 5]},
        "scoring": {"criterion": "perplexity", "plus": False},
        "recovery": {"kind": "distill"},
    },
    "a preset with a null over it": {
        "preset": "best",
        "pruning": {"kind": "depth", "blocks": 2, "gguf": False},
        "recovery": {"kind": "distill", "heal": None, "text": BLEND},
    },
    "lists, pairs, a target": {
        "pruning": {"kind": "depth", "target": {"parameters": 0.8}},
        "quantise": [{"kind": "int4", "group_size": 64}, {"kind": "gguf", "type": "Q4_K_M"}],
        "benchmark": {"samples": {"prompts": ["two\nlines", " and blanks "], "chat": False}, "tasks": {}},
        "labels": {"branch": "main", "asked.by": "a=b", "commit": ""},
        "baseline": {"label": {"branch": "main"}, "max_regression": {"speedup": 0.05, "kl": 1e-7}, "required": False},
    },
    "sections left out": {
        "pruning": {"kind": "joint", "target": {"bytes": 4e8}, "healing": None, "choices": ["mlp"]},
        "recovery": {"kind": "none"},
        "benchmark": {"latency": None, "samples": None, "perplexity": {"texts": [{"source": "named", "name": "ptb"}]}},
        "gates": {"judge": "median", "max_kl": 0.5},
        "seed": 7,
    },
    "a draft": {
        "use": "draft",
        "target_model": {"source": "hub", "id": "some/larger", "revision": "main"},
        "pruning": {"kind": "depth"},  # and as many blocks go as make the best one
    },
}

pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=f"{MISSING} is not installed"),
    pytest.mark.usefixtures("quiet_console"),
]


def body(browser: Browser) -> dict[str, Any]:
    """What the form would send."""
    told: dict[str, Any] = json.loads(browser.run(BODY))
    return told


def test_a_job_is_a_start_for_another(url: str, browser: Browser, sessions: SessionFactory) -> None:
    for name, asked in UNLIKE.items():
        whole = {"model": {"source": "hub", "id": "some/model"}, **asked}
        spec = CompressionSpec.model_validate(whole)
        with unit_of_work(sessions) as session:
            made = jobs.insert(session, spec=spec, caller="me")
            assert made is not None
            job = str(made.id)
        browser.open(f"{url}/ui/jobs/{job}")
        browser.click(".actions a[href*='/ui/new']")
        browser.until(READY)
        assert job in browser.text(".heading"), name
        sent = body(browser)
        assert CompressionSpec.model_validate(sent) == spec, name
        assert sent == whole, name  # nor is anything said beside it


def test_what_is_changed_of_a_start_is_what_is_sent(url: str, browser: Browser, spec: dict[str, Any]) -> None:
    job = post(f"{url}/jobs", json={**spec, "labels": {"branch": "main" * 40}, "quantise": [{"kind": "int8"}]}).json()[
        "id"
    ]
    browser.open(f"{url}/ui/new?job={job}")
    browser.until(READY)
    before = body(browser)
    beyond = "const aside = document.querySelector('aside'); return aside.scrollWidth - aside.clientWidth"
    assert browser.run(beyond) <= 0  # a long line moves in its own box
    browser.run(TYPE, "f-labels", "branch=side")
    browser.run("document.querySelector('.item > button').click()")
    browser.run(CHOOSE, "f-model-source", "local")
    browser.run(TYPE, "f-model-path", "m.gguf")
    changed = {**before, "labels": {"branch": "side"}, "model": {"source": "local", "path": "m.gguf"}}
    del changed["quantise"]
    assert body(browser) == changed
    browser.open(f"{url}/ui/new?job={job}")
    browser.until(READY)
    browser.click("#submit")
    browser.until(f"return location.pathname.startsWith('/ui/jobs/') && !location.pathname.endsWith('{job}')")
    again = browser.url.rsplit("/", 1)[-1]
    assert get(f"{url}/jobs/{again}").json()["spec"] == get(f"{url}/jobs/{job}").json()["spec"]


def test_the_defaults_are_those_of_the_preset(url: str, browser: Browser) -> None:
    """What a preset fills in is what the form shows, and what was typed before stays."""
    shown = (
        "return [document.getElementById('f-recovery-kind').selectedOptions[0].text,"
        "document.getElementById('f-recovery-batch_size').placeholder,"
        "document.getElementById('f-scoring-plus').selectedOptions[0].text]"
    )
    model = {"source": "hub", "id": "some/model"}
    browser.open(f"{url}/ui/new")
    browser.until(READY)
    assert browser.run(shown) == ["default: distill", "8", "default: yes"]
    assert "Exactly one of blocks, ratio, drop, target and constraints" in browser.text("#f-pruning-kind ~ .hint")
    browser.run(TYPE, "f-model-id", "some/model")
    browser.run(CHOOSE, "f-preset", "shortened_llama")
    assert browser.run(shown) == ["default: lora", "64", "default: yes"]
    assert body(browser) == {"preset": "shortened_llama", "model": model, "pruning": {"kind": "depth"}}
    browser.run(TYPE, "f-recovery-rank", "4")
    recovery = {"kind": "lora", "rank": 4}
    assert body(browser)["recovery"] == recovery  # with the preset's own method
    browser.run(CHOOSE, "f-recovery-kind", "distill")
    assert browser.run(shown)[1] == "8"  # of another method the preset says nothing
    browser.run(CHOOSE, "f-recovery-kind", "lora")
    browser.run(TYPE, "f-recovery-rank", "4")
    browser.run(CHOOSE, "f-preset", "")
    assert body(browser) == {"model": model, "pruning": {"kind": "depth"}, "recovery": recovery}


def test_what_varies_is_submitted_as_a_sweep(url: str, browser: Browser) -> None:
    model, pruning = {"source": "hub", "id": "some/model"}, {"kind": "depth"}
    browser.open(f"{url}/ui/sweeps")
    browser.click("a.button[href='/ui/new#sweep']")
    browser.until(READY)
    assert browser.run("return document.getElementById('sweep').open")
    browser.run(TYPE, "f-model-id", "some/model")
    browser.run(TYPE, "f-seed", "7")
    assert body(browser) == {"model": model, "pruning": pruning, "seed": 7}, "nothing varies: it is one job"
    browser.run(TYPE, "f-grid-pruning.ratio", "0.1, 0.2, 2")
    browser.run(TYPE, "f-grid-scoring.criterion", "taylor\nmagnitude")
    grid = {"pruning.ratio": [0.1, 0.2, 2], "scoring.criterion": ["taylor", "magnitude"]}
    assert body(browser) == {"spec": {"model": model, "pruning": pruning, "seed": 7}, "grid": grid}
    assert browser.text("#submit") == "Submit 6 jobs"
    assert browser.text("#sweep > summary small") == "6 jobs"
    browser.run(CHOOSE, "f-preset", "quick")
    assert body(browser)["grid"] == grid, "a preset, which makes the form anew, leaves it"
    browser.click("#submit")
    browser.until("return document.getElementById('f-grid-pruning.ratio').getAttribute('aria-invalid') === 'true'")
    browser.run(TYPE, "f-grid-pruning.ratio", "0.1 0.2")
    browser.click("#submit")
    browser.until("return location.pathname.startsWith('/ui/sweeps/')")
    made = get(f"{url}/sweeps/{browser.url.rsplit('/', 1)[-1]}").json()
    assert [list(point["changes"].values()) for point in made["points"]] == [
        [ratio, criterion] for ratio in (0.1, 0.2) for criterion in ("taylor", "magnitude")
    ]


def test_local_models_are_offered(url: str, browser: Browser, model_root: Path) -> None:
    for name in ("a.gguf", "b & <c>.gguf"):
        (model_root / name).write_bytes(b"GGUF")
    browser.open(f"{url}/ui/new")
    browser.until(READY)
    browser.run(CHOOSE, "f-model-source", "local")
    browser.until("return document.getElementById('f-model-path').list.options.length === 2")
    offered = browser.run("return [...document.getElementById('f-model-path').list.options].map((one) => one.value)")
    assert offered == ["a.gguf", "b & <c>.gguf"]


def run_copies(browser: Browser, environment: dict[str, str]) -> None:
    """Each way to send what the form asks for, as a person would who copies it; the page is left before."""
    copies = {name: browser.run(f"return document.getElementById('{name}').textContent") for name in COPIES}
    browser.open("about:blank")
    for name, runner in COPIES.items():
        ran = subprocess.run([*runner, copies[name]], env=environment, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, (name, ran.stdout, ran.stderr)


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_copies_ask_for_what_the_form_does(
    make_settings: Callable[..., Settings], browser: Browser, spec: dict[str, Any]
) -> None:
    """As curl, as a command and as Python, each is run as it stands, against a service that wants a key."""
    key = "a-key-of-32-characters-in-all-xx"
    awkward = {"note": 'it\'s "so" \\n $HOME `id` – é\u2028', "branch": "SPEC"}
    more = {"benchmark": {"samples": {"prompts": ["two\nlines"], "chat": False}, "latency": None}, "labels": awkward}
    environment = {**os.environ, "SECATEUR_API_KEY": key, "NO_COLOR": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with serving(create_app(make_settings(api_keys=key))) as url:
        headers = {"Authorization": f"Bearer {key}"}
        first = post(f"{url}/jobs", json={**spec, **more}, headers=headers).raise_for_status().json()
        browser.open(f"{url}/login")
        browser.type("[name=key]", key)
        browser.click("main button")
        browser.until("return location.pathname === '/ui'")
        browser.open(f"{url}/ui/new?job={first['id']}")
        browser.until(READY)
        run_copies(browser, environment)
        made = get(f"{url}/jobs", headers=headers).json()["data"]
        specs = [get(f"{url}/jobs/{job['id']}", headers=headers).json()["spec"] for job in made]
        assert specs == [first["spec"]] * (1 + len(COPIES))

        browser.open(f"{url}/ui/new?job={first['id']}#sweep")  # and a sweep that begins with it
        browser.until(READY)
        browser.run(TYPE, "f-grid-pruning.blocks", "1, 2")
        asked = body(browser)
        run_copies(browser, environment)
        made = get(f"{url}/sweeps", headers=headers).json()["data"]
        sweeps = [get(f"{url}/sweeps/{sweep['id']}", headers=headers).json()["asked"] for sweep in made]
        assert sweeps == [asked] * len(COPIES)
