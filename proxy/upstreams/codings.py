"""Content codings: looking into compressed bodies while the compressed bytes pass by. Pure."""

from __future__ import annotations

import zlib

from proxy.dialects.base import InvalidRequest


class UnknownCoding(ValueError):
    """A coding that cannot be looked into."""


class Decoder:
    """Undoes one Content-Encoding, a piece at a time. Raises UnknownCoding for one that it does not know.

    `feed` raises zlib.error for bytes that are not of that coding, and for a piece that decodes to over `limit` bytes.
    """

    def __init__(self, coding: str, *, limit: int) -> None:
        coding = coding.strip().lower()
        self._limit = limit
        self._inflate: zlib._Decompress | None = None
        self._raw_deflate_possible = coding == "deflate"
        self._is_gzip = coding in {"gzip", "x-gzip"}
        if self._is_gzip:
            self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        elif coding == "deflate":
            self._inflate = zlib.decompressobj()
        elif coding not in {"", "identity"}:
            raise UnknownCoding(coding)

    def feed(self, data: bytes) -> bytes:
        """The decoded form of the next bytes."""
        if self._inflate is None or not data:
            return data
        try:
            decoded = self._inflate.decompress(data, self._limit)
        except zlib.error:
            if not self._raw_deflate_possible:
                raise
            # RFC 9110 8.4.1.2: some senders leave out the zlib wrapper.
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            decoded = self._inflate.decompress(data, self._limit)
        self._raw_deflate_possible = False
        # RFC 1952 2.2: a gzip file may have several members, one after the other.
        while self._is_gzip and self._inflate.eof and (rest := self._inflate.unused_data):
            self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
            decoded += self._inflate.decompress(rest, self._limit)
            if len(decoded) > self._limit:
                break
        if self._inflate.unconsumed_tail or len(decoded) > self._limit:
            raise zlib.error(f"more than {self._limit} bytes when decoded")
        return decoded

    @property
    def complete(self) -> bool:
        """Whether nothing is missing so far as the coding can tell."""
        return self._inflate is None or self._inflate.eof


def decode(body: bytes, coding: str, *, limit: int) -> bytes:
    """A caller's whole body without its coding. Raises InvalidRequest if that cannot be had within `limit` bytes."""
    if not coding:
        return body
    try:
        return Decoder(coding, limit=limit).feed(body)
    except (UnknownCoding, zlib.error) as error:
        raise InvalidRequest("content-encoding", f"the body cannot be decoded: {error}") from error
