"""Templates of tasks reach nothing and make little."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import TemplateError
from lm_eval import utils  # type: ignore[import-untyped]  # ships no annotations

from workers.engine.benchmarks import sandbox
from workers.engine.benchmarks.sandbox import use_sandbox


@pytest.fixture(autouse=True)
def _sandboxed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(utils, "env", utils.env)
    use_sandbox()
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)
    yield
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize(
    "template",
    [
        "{{ cycler.__init__.__globals__.os.popen('touch ' ~ path).read() }}",
        "{{ lipsum.__globals__['os'].system('touch ' ~ path) }}",
        "{{ self.__init__.__globals__.__builtins__.open(path, 'w') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ (noun|attr('__class__')).__mro__ }}",
        "{{ '{0.__class__.__mro__}'.format(noun) }}",
        "{{ noun['__class__']['__mro__'] }}",
        "{{ joiner.__call__.__globals__ }}",
        "{% include path %}",
        "{% import path as x %}",
        "{% extends path %}",
        "{{ items.append(1) }}",
        "{{ items.clear() }}",
        "{{ settings.update(a=1) }}",
    ],
)
def test_a_template_reaches_nothing(template: str, tmp_path: Path) -> None:
    path = tmp_path / "touched"
    items, settings = [1, 2], {"a": 0}
    try:
        made = utils.apply_template(template, {"noun": "x", "path": str(path), "items": items, "settings": settings})
    except (TemplateError, TypeError):  # of files: "no loader for this environment"
        made = ""
    assert "class" not in made
    assert not path.exists()
    assert (items, settings) == ([1, 2], {"a": 0})


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 10**10 }}",
        "{{ noun * 10**10 }}",
        "{{ noun * 2_000_000 }}",
        "{{ noun.ljust(10**10) }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ noun|center(10**10) }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}" + "{{ noun * 100 }}{% endfor %}",
        "{% set a = noun * 9 %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ n ** (n ** (n ** n)) }}",
        "{{ 1.5|round(10 ** 9, 'ceil') }}",
        "{% set a = n ** 1000 %}" + "{% set a = a * a %}" * 40 + "{{ a % 7 }}",
        "{% set a = n.from_bytes(('x' * 10 ** 7).encode(), 'big') %}{{ a // (a - 1) }}",
        "{{ ('a' * 40 ~ 'b')|regex_replace('(a+)+$', '') }}",
        "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
        "{{ noun" + ".a" * 200_000 + " }}",
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of an alarm within the collector
def test_a_template_makes_little(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MOST_SECONDS", 0.5)
    with pytest.raises(TemplateError):
        utils.apply_template(template, {"noun": "x", "n": 9})


def test_what_tasks_need_is_there() -> None:
    document = {"noun": "sky", "choices": ["blue", "red"], "label": 1, "text": "a b c"}
    for template, made in (
        ("The {{noun}} is {{choices[label]}}\n", "The sky is red\n"),
        ("{% for c in choices %}{{loop.index}}. {{c|trim}} {% endfor %}", "1. blue 2. red "),
        ("{{text.split(' ')[:-1]|join('-')}}", "a-b"),
        ("{{choices}}", "['blue', 'red']"),
        (
            "{{noun|regex_replace('s', 'S')}}{{ 'x' * 3 }}{% if label == 1 %}!{% endif %}",
            "Skyxxx!",
        ),
        ("{{ 2 ** 3 % 5 * 2 }} {{ 2.55|round(1, 'floor') }}", "6 2.5"),
        ("{% set n = noun.upper() %}{{ n ~ choices.index('red') }}", "SKY1"),
    ):
        assert utils.apply_template(template, document) == made
    with pytest.raises(TemplateError, match="undefined"):
        utils.apply_template("{{absent}}", document)


def test_templates_of_the_harness_itself_compile() -> None:
    """Those of the tasks that a job has unless others are named, and of what is run most beside them."""
    folder = Path(utils.__file__).parent / "tasks"
    files = [folder / name for name in ("arc/arc_easy.yaml", "piqa/piqa.yaml", "gsm8k/gsm8k.yaml")]
    assert all(file.is_file() for file in files)
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith(("doc_to_text:", "doc_to_target:", "doc_to_choice:")):
                utils.env.from_string(line.partition(":")[2])


def test_memory_that_is_needed_elsewhere_is_left_alone() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    lower = used + 64 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (lower, hard))  # as a stage may have it
    try:
        with sandbox.bounded():
            assert resource.getrlimit(resource.RLIMIT_AS)[0] == lower
        assert resource.getrlimit(resource.RLIMIT_AS)[0] == lower
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
