"""The one mask that every process puts over what it logs or shows: passwords, keys and tokens become `***`.

Two nets. *Known values*: what the settings and the environment hold as secrets, wherever it turns up and however it is
written (raw, percent-encoded, as JSON); a library that puts a password into an error in a form of its own is caught by
that. *Known forms*: what looks like a secret though this process was never told it, such as a password in a URL.

Pure, and without imports of the service, so that stages can use it too.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO
from urllib.parse import quote, quote_plus, unquote, urlsplit

HIDDEN = "***"
SHORTEST = 4  # characters; a shorter secret would hide half of every line, and protects nothing

_NAMES = "|".join(
    (
        r"pass(?:word|phrase)",
        r"(?<!/etc/)passwd",  # which is a file, and what follows is said of it
        r"(?<![A-Za-z0-9])(?:secret(?:[_-]?(?:access[_-]?)?key)?|api[_-]?keys?|private[_-]?key)",
        r"(?<![A-Za-z0-9])(?:access|auth|session|security|refresh|hf|bearer|id|hub)[_-]?token",
    )
)
_VALUE = r"(?:\"[^\"]*\"|'[^']*'|[^\s,;&)}\]'\"]+)"
_FORMS = (
    # scheme://user:password@host, with any "@" in the password
    (re.compile(r"(?<=://)([^\s/:@'\"]*):([^\s/'\"]+)(?=@)"), rf"\1:{HIDDEN}"),
    # name=value, "name": "value", name: 'value'
    (re.compile(rf"(?i)((?:{_NAMES})['\"]?\s*[=:]\s*b?){_VALUE}"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(secateur_session=)[^;\s,'\"]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s'\"]+"), rf"\1{HIDDEN}"),
    # the hub's tokens; a name such as hf_evaluate has no digit and no capital, and is shorter than any token
    (re.compile(r"\bhf_(?:(?=[a-z]*[0-9A-Z])[A-Za-z0-9]{8,}|[a-z]{12,}(?![A-Za-z0-9_]))"), HIDDEN),
    (re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|glpat-[\w-]{16,}|sk-[\w-]{20,})"), HIDDEN),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), HIDDEN),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"), HIDDEN),  # signed web tokens
    (re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?(?:-----END \1PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
)
_SECRET_VARIABLE = re.compile(r"(?i)(?:^|_)(?:(?:API)?KEYS?|TOKEN|SECRET|(?:PG)?PASSWORD|PASSWD|CREDENTIALS?)$")
_SECRET_PREFIXES = ("SECATEUR_", "AWS_", "HF_OIDC")  # the servers' and the store's
_PROXIES = re.compile(r"(?i)(?:https?|all)_proxy")  # may have a password, and are needed to fetch
_NO_TOKEN = {"HF_TOKEN_PATH": os.devnull}  # the hub's, which somebody has left in a file
_NOT_SECRET = re.compile(r"(?i)true|false|none|null|auto|[0-9]{1,5}")

_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def learn(secrets: Iterable[str]) -> None:
    """Hide these values from now on, in all the ways in which they may be written."""
    global _pattern
    for secret in secrets:
        if len(secret) >= SHORTEST and not _NOT_SECRET.fullmatch(secret):
            _known.update({secret, unquote(secret), quote(secret, safe=""), quote(secret), quote_plus(secret)})
            _known.update({json.dumps(secret)[1:-1], repr(secret)[1:-1]})
    if _known:
        # the longest first: of a key and its beginning, the whole key is hidden
        _pattern = re.compile("|".join(re.escape(value) for value in sorted(_known, key=lambda v: (-len(v), v))))


def holds_secret(name: str, value: str) -> bool:
    """Whether a variable of the environment is secret by its name, or is a URL with a password."""
    if _SECRET_VARIABLE.search(name):
        return True
    try:
        return "://" in value and bool(urlsplit(value).password)
    except ValueError:
        return True


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that reads the files of strangers: it has nothing to lose."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_SECRET_PREFIXES) and (_PROXIES.fullmatch(name) or not holds_secret(name, value))
    }
    return {**kept, **_NO_TOKEN}


def learn_environment(environment: Mapping[str, str]) -> None:
    """Hide what the environment holds under names of secrets, and the passwords in its URLs."""
    for name, value in environment.items():
        if _SECRET_VARIABLE.search(name):
            learn([value, *(part.strip() for part in value.split(","))])
        elif "://" in value:
            learn_url(value)


def learn_url(url: str) -> None:
    """Hide the password of a URL; one that is the user's name or the path's is not secret, and is left readable."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    if parts.password and unquote(parts.password) not in {parts.username, parts.path.strip("/"), parts.hostname}:
        learn([parts.password, unquote(parts.password)])


def redact(text: str) -> str:
    """The text with secrets hidden."""
    if _pattern is not None:
        text = _pattern.sub(HIDDEN, text)
    for form, replacement in _FORMS:
        text = form.sub(replacement, text)
    return text


def redact_all(value: Any) -> Any:
    """A value as JSON has it, with secrets hidden in every text of it."""
    match value:
        case str():
            return redact(value)
        case dict():
            return {key: redact_all(item) for key, item in value.items()}
        case list():
            return [redact_all(item) for item in value]
        case _:
            return value


class MaskedStream:
    """A text stream through which no secret goes: for processes that print, tracebacks above all."""

    def __init__(self, inner: TextIO) -> None:
        self.inner = inner

    def write(self, text: str) -> int:
        self.inner.write(redact(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def mask_errors() -> None:
    """Mask what this process writes to standard error from now on, and learn the secrets of its environment."""
    learn_environment(os.environ)
    if not isinstance(sys.stderr, MaskedStream):
        sys.stderr = MaskedStream(sys.stderr)
