"""Secrets are hidden by their form, and by their value once they are known."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from secateur import masking
from secateur.masking import learn, learn_environment, learn_url, redact


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_known", set())
    monkeypatch.setattr(masking, "_pattern", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://user:p%40ss@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:p@ss@host/db", "postgresql://user:***@host/db"),
        ("at redis://:secret@127.0.0.1:6379/0.", "at redis://:***@127.0.0.1:6379/0."),
        ("token hf_AbCdEf123456", "token ***"),
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer ***"),
        ("Authorization: Basic dXNlcjpodW50ZXIy", "Authorization: Basic ***"),
        ("host=db password=hunter2 dbname=x", "host=db password=*** dbname=x"),
        ("host=db password='hunter 2' dbname=x", "host=db password=*** dbname=x"),
        ('{"password": "hunter2", "n": 1}', '{"password": ***, "n": 1}'),
        ("{'api_key': 'abcdef', 'n': 1}", "{'api_key': ***, 'n': 1}"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "AWS_SECRET_ACCESS_KEY=***"),
        ("HF_TOKEN=abcdefgh", "HF_TOKEN=***"),
        ("passwd: hunter2", "passwd: ***"),
        ("read etc/db_passwd=hunter2", "read etc/db_passwd=***"),
        ("at secrets/password: hunter2", "at secrets/password: ***"),
        ("cookie: secateur_session=0f3a; a=b", "cookie: secateur_session=***; a=b"),
        ("GET /x?X-Amz-Signature=0f&n=1", "GET /x?X-Amz-Signature=***&n=1"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nrest", "***\nrest"),
    ],
)
def test_known_forms(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "see https://host/a:b@c and step 3:4",
        "pad_token: <pad>, eos token: </s>, tokens=128, max_tokens: 5",
        "step 3 of 8, loss 2.31, key: model.layers.0.weight",
        "the tokenizer's special token = 5",
        "/etc/passwd: no such file, and /srv/root/etc/passwd: it lies outside",
        "x.yaml has `metric_list.0.hf_evaluate`, which is not taken",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_known_values_are_hidden_however_they_are_written() -> None:
    learn_url("postgresql://user:s%2Fcr%40t@host/db")
    assert redact("connection to s/cr@t, s%2Fcr%40t, s/cr%40t refused") == "connection to ***, ***, *** refused"
    learn(['quo"te\n'])
    assert redact(r"quo\"te\n") == "***"


def test_the_environment_is_read_by_its_names() -> None:
    environment = {
        "SECATEUR_API_KEYS": "first-key, second-key",
        "MY_SERVICE_TOKEN": "tokenvalue",
        "PGPASSWORD": "pgsecret",
        "SOME_URL": "amqp://u:urlsecret@h/v",
        "TOKENIZERS_PARALLELISM": "false",
        "USE_TOKEN": "true",
        "HOME": "/home/u",
    }
    learn_environment(environment)
    text = "first-key second-key tokenvalue pgsecret urlsecret false true /home/u"
    assert redact(text) == "*** *** *** *** *** false true /home/u"


def test_a_key_that_begins_like_another_is_hidden_whole() -> None:
    learn(["abcdef", "abcdefghi"])
    assert redact("abcdefghi abcdef") == "*** ***"


def test_a_long_line_is_masked_in_time_that_grows_with_its_length() -> None:
    line = "a-" * 200_000 + " password=hunter2"  # would take minutes if each word were looked at from each of its parts
    assert redact(line).endswith("password=***")


def test_short_values_and_names_do_not_blacken_the_log() -> None:
    learn(["abc", "8000", ""])
    learn_url("postgresql://secateur:secateur@db/secateur")
    assert redact("abc on 8000 of secateur") == "abc on 8000 of secateur"


def test_what_a_command_prints_of_an_error_is_masked() -> None:
    program = (
        "from secateur.cli import main as cli\n"
        "def broken(): raise RuntimeError('no answer from http://me:hunter2@host with key s3cret-of-mine')\n"
        "cli.app = broken\n"
        "cli.main()\n"
    )
    environment = {**os.environ, "SECATEUR_API_KEY": "s3cret-of-mine"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RuntimeError: no answer from http://me:***@host with key ***" in done.stderr
    assert "hunter2" not in done.stderr
