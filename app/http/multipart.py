"""A `multipart/form-data` body as it comes: short fields in memory, the one file straight to disk, hashed on the way.

The framework's own reader takes the whole body before the caller's key is looked at, and keeps the file where it likes.
This one is fed chunk by chunk by an operation that knows its caller, and refuses what is too long at once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from secateur.contract.errors import BadRequest, InvalidInput, PayloadTooLarge, UnsupportedMediaType
from secateur.contract.shown import shortened

MAX_FIELD_BYTES = 4096
MAX_PARTS = 16
EXPECTED_TYPE = "multipart/form-data"


@dataclass(frozen=True)
class ReceivedFile:
    """A file of a form, whole, on disk."""

    path: Path
    name: str | None  # as the sender's host knows it
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class ReceivedForm:
    """A form that has come whole."""

    fields: dict[str, str]
    file: ReceivedFile | None


@dataclass
class _Part:
    name: str
    content: bytearray = field(default_factory=bytearray)


class FormReceiver:
    """Takes the body of one request by `feed`, and gives the form by `finish`. Close it whatever happens."""

    def __init__(
        self, content_type: str | None, folder: Path, *, file_field: str, most_bytes: int, setting: str
    ) -> None:
        """The file is written to `folder`/received; `setting` names what limits it to `most_bytes`.

        Raises:
            UnsupportedMediaType: the body is no such form.
            BadRequest: its type names no boundary.
        """
        kind, options = parse_options_header(content_type)
        if kind.decode("latin-1").lower() != EXPECTED_TYPE:
            given = content_type or "none"
            raise UnsupportedMediaType(f"the body's Content-Type is {shortened(given)}; it must be {EXPECTED_TYPE}")
        if not options.get(b"boundary"):
            raise BadRequest(f"the body's Content-Type has no boundary; expected {EXPECTED_TYPE}; boundary=…")
        self._path = folder / "received"
        self._file_field, self._most_bytes, self._setting = file_field, most_bytes, setting
        self._fields: dict[str, str] = {}
        self._sink: BinaryIO | None = None
        self._file_name: str | None = None
        self._digest, self._size = hashlib.sha256(), 0
        self._parts, self._ended = 0, False
        self._header_name, self._header_value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._part: _Part | None = None  # the field that is coming; None while the file is
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._part_begins,
                "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
                "on_end": self._all_ends,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            BadRequest: they are no form.
            InvalidInput: a field is not wanted, too long or given twice.
            PayloadTooLarge: the file is over its limit.
        """
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise BadRequest(f"the body is no {EXPECTED_TYPE}: {error}") from error

    def finish(self) -> ReceivedForm:
        """The form. Raises BadRequest if its end is missing."""
        if not self._ended:
            raise BadRequest("the body is cut short: its closing boundary is missing")
        self.close()
        file = None
        if self._path.exists():
            file = ReceivedFile(self._path, self._file_name, self._size, self._digest.hexdigest())
        return ReceivedForm(dict(self._fields), file)

    def close(self) -> None:
        """Close the file that is written."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BadRequest(f"the form has more than {MAX_PARTS} parts")
        self._headers = {}

    def _header_ends(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name, self._header_value = bytearray(), bytearray()

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name == self._file_field:
            if self._path.exists():
                raise InvalidInput.field(f"/{name}", f"`{name}` is given twice", expected="one file")
            given = options.get(b"filename")
            self._file_name = given.decode("utf-8", "replace") if given else None
            self._part, self._sink = None, self._path.open("xb")
        elif not name:
            raise BadRequest("a part of the form has no name")
        elif name in self._fields:
            twice = shortened(name)
            raise InvalidInput.field(f"/{twice}", f"`{twice}` is given twice", expected="one value")
        else:
            self._part = _Part(name)

    def _data(self, data: bytes, start: int, end: int) -> None:
        chunk = data[start:end]
        if self._part is not None:
            self._part.content += chunk
            if len(self._part.content) > MAX_FIELD_BYTES:
                name = shortened(self._part.name)
                detail = f"`{name}` is longer than {MAX_FIELD_BYTES} bytes"
                raise InvalidInput.field(f"/{name}", detail, expected=f"at most {MAX_FIELD_BYTES} bytes")
        elif self._sink is not None:
            self._size += len(chunk)
            if self._size > self._most_bytes:
                raise PayloadTooLarge(
                    f"the file has more than {self._most_bytes:,} bytes, which is the limit ({self._setting})"
                )
            self._digest.update(chunk)
            self._sink.write(chunk)

    def _part_ends(self) -> None:
        if self._part is not None:
            self._fields[self._part.name] = self._part.content.decode("utf-8", "replace")
        self.close()

    def _all_ends(self) -> None:
        self._ended = True
