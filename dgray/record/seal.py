"""Seal of a record: its checksum, its name, and the study that it belongs to, within the file.

Every record of a run holds one seal, a piece of ASCII text at a place where its format permits it:
an entry of JSON, a comment of YAML, metadata of Parquet and safetensors, otherwise the end of the
file. So the files remain valid, and a record and its checksum are written at once. The checksum
is the SHA-256 of the whole file with zeros in place of its own digits. It detects damage and
mistakes; it does not protect against an author of false records.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pyarrow as pa
import pyarrow.parquet as pq

from dgray.errors import RecordError

KEY = "seal"  # of JSON and of the metadata of Parquet and safetensors
_START = b"dgray-seal:"
_SEAL = re.compile(rb"dgray-seal:(?P<identity>[\w.~%=&+-]*):(?P<digest>[0-9a-f]{64})")
_ZEROS = b"0" * 64
_ALIGNMENT = 8  # of the header of safetensors
# Before it, safetensors have the length of the header, 8 bytes, and a brace.
_HEADER_SEAL = re.compile(rb'"__metadata__":\{"seal":"dgray-seal:[^"]*"\}, *')


@dataclass(frozen=True)
class Identity:
    """Study that a record belongs to.

    Attributes:
        study: name of the study.
        seed: its seed.
        definition: digest of all its fields that affect rows.
    """

    study: str
    seed: str
    definition: str

    def seal(self, name: str) -> str:
        """Return the seal of a record, with zeros in place of the checksum."""
        return f"dgray-seal:{urlencode({'record': name, **asdict(self)})}:{_ZEROS.decode()}"

    def __str__(self) -> str:
        return f"study {self.study}, seed {self.seed} ({self.definition})"


def sealed_json(content: Mapping[str, Any], seal: str) -> bytes:
    """Return a JSON object with its seal as the last entry."""
    text = json.dumps({**content, KEY: seal}, indent=1, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"  # bytes of a path that are not UTF-8


def sealed_yaml(content: str, seal: str) -> bytes:
    """Return YAML with its seal in a comment at the end."""
    return f"{content}# {seal}\n".encode()


def sealed_table(
    table: pa.Table, seal: str, *, store_schema: bool, metadata: Mapping[str, str]
) -> bytes:
    """Return a table as Parquet with its seal in the metadata.

    Args:
        table: table without metadata of its own.
        seal: see ``Identity.seal``.
        store_schema: whether to store metadata of fields, which take 20 KB for all columns.
        metadata: further metadata.
    """
    content = io.BytesIO()
    with pq.ParquetWriter(
        content,
        table.schema,
        compression="zstd",
        store_schema=store_schema,
        use_dictionary=False,  # of few rows a larger file, in more time
        write_statistics=False,  # 5 KB, for queries
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({**metadata, KEY: seal})
    return content.getvalue()


def sealed_bytes(content: bytes, seal: str) -> bytes:
    """Return safetensors with their seal in the metadata, other bytes with it at the end.

    Safetensors that have metadata already also get it at the end, which their library refuses.
    """
    length = int.from_bytes(content[:8], "little")
    if content[8:10] != b'{"' or b"__metadata__" in content[8 : 8 + length]:
        return content + b"\n" + seal.encode()
    entry = f'"__metadata__":{{"{KEY}":"{seal}"}},'.encode()
    entry += b" " * (-len(entry) % _ALIGNMENT)
    return (length + len(entry)).to_bytes(8, "little") + b"{" + entry + content[9:]


def unsealed_bytes(content: bytes) -> bytes:
    """Return the argument of ``sealed_bytes``, or bytes without a seal as they are."""
    if entry := _HEADER_SEAL.match(content, 9):
        length = int.from_bytes(content[:8], "little") - len(entry[0])
        return length.to_bytes(8, "little") + b"{" + content[entry.end() :]
    match = _find(content)
    return content if match is None or match.end() < len(content) else content[: match.start() - 1]


def with_checksum(content: bytes) -> bytes:
    """Return the content with the checksum in its seal."""
    match = _find(content)
    if match is None:
        raise ValueError("a record must hold a seal")
    start, stop = match.span("digest")
    return content[:start] + _digest(content, match) + content[stop:]


def identity_in(content: bytes, name: str) -> Identity | None:
    """Return the identity of a record, or None if it has no seal.

    Raises:
        RecordError: the checksum is wrong, or it is the record of another name.
    """
    match = _find(content)
    if match is None and _START not in content:
        return None
    if match is None or _digest(content, match) != match["digest"]:
        raise RecordError("damaged: its checksum does not match its content")
    values = dict(parse_qsl(match["identity"].decode(), keep_blank_values=True))
    if (record := values.pop("record", "")) != name:
        raise RecordError(f"misplaced: it was written as {record}")
    return Identity(**values)


def _find(content: bytes) -> re.Match[bytes] | None:
    start = content.rfind(_START)  # the last one: text of a user may come before it
    return None if start < 0 else _SEAL.match(content, start)


def _digest(content: bytes, match: re.Match[bytes]) -> bytes:
    view, (start, stop) = memoryview(content), match.span("digest")
    digest = hashlib.sha256(view[:start])
    digest.update(_ZEROS)
    digest.update(view[stop:])
    return digest.hexdigest().encode()
