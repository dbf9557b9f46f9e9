"""Compressed bodies: named by what would be misread of them."""

from __future__ import annotations

import gzip
import zlib

import pytest

from proxy.upstreams.codings import Decoder

TWO = gzip.compress(b"abc") + gzip.compress(b"def")


@pytest.mark.parametrize("cut", range(len(TWO) + 1))
def test_the_second_member_of_a_gzip_body_is_taken_for_rubbish(cut: int) -> None:
    decoder = Decoder("gzip", limit=100)
    assert decoder.feed(TWO[:cut]) + decoder.feed(TWO[cut:]) == b"abcdef"
    assert decoder.complete


def test_half_a_second_member_is_taken_for_the_whole() -> None:
    decoder = Decoder("gzip", limit=100)
    decoder.feed(TWO[:-4])
    assert not decoder.complete


@pytest.mark.parametrize("member", [b"x" * 101, b"x" * 60])
def test_a_bomb_hides_in_the_second_member(member: bytes) -> None:
    decoder = Decoder("gzip", limit=100)
    with pytest.raises(zlib.error):
        decoder.feed(gzip.compress(b"y" * 60) + gzip.compress(member))


def test_rubbish_after_a_member_passes() -> None:
    with pytest.raises(zlib.error):
        Decoder("gzip", limit=100).feed(gzip.compress(b"abc") + b"rubbish")
