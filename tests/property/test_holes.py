"""Chat models deviate from the form in every way: none of it may get into somebody's file, and no code may be lost."""

from __future__ import annotations

import random
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy import fim
from proxy.dialects.base import Hole
from tests.property import corpus
from tests.property.conftest import Share
from tests.property.deviations import DEVIATIONS, tags

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.property.corpus import Cut
    from tests.property.deviations import Deviation

HOLES = 2_200


@cache
def cuts() -> list[Cut]:
    return list(corpus.cuts(HOLES))


def inserted(cut: Cut, pieces: Iterable[str]) -> str:
    cleaner = fim.Cleaner(cut.hole, stops=(), max_tokens=None)
    return "".join(map(cleaner.feed, pieces)) + cleaner.finish()


@pytest.mark.parametrize("deviation", DEVIATIONS, ids=lambda deviation: deviation.name)
def test_a_deviation_is_inserted_or_takes_code_with_it(deviation: Deviation, shares: list[Share]) -> None:
    tried = recovered = 0
    for cut in map(deviation.cut, cuts()):
        if (answer := deviation.answer(cut)) is not None:
            tried += 1
            recovered += inserted(cut, [answer]) == cut.middle
    share = Share(deviation, tried, recovered / tried)
    shares.append(share)
    assert share.recovered >= deviation.floor


def test_the_holes_are_not_those_of_an_editor() -> None:
    kinds = [cut.kind for cut in cuts()]
    assert len(cuts()) >= 2_000
    assert min(map(kinds.count, set(kinds))) == HOLES // len(set(kinds))
    assert HOLES / 5 < sum(cut.line_end == "\r\n" for cut in cuts()) < HOLES / 3
    assert cuts() == list(corpus.cuts(HOLES))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    number=st.integers(0, HOLES - 1),
    deviation=st.sampled_from(DEVIATIONS),
    seed=st.integers(0, 2**32),
    longest=st.sampled_from([1, 3, 8, 40, 400]),
)
def test_what_is_inserted_depends_on_the_pieces(number: int, deviation: Deviation, seed: int, longest: int) -> None:
    cut = deviation.cut(cuts()[number])
    if (answer := deviation.answer(cut)) is None:
        return
    chance, pieces, at = random.Random(seed), list[str](), 0
    while at < len(answer):
        size = chance.randint(1, longest)
        pieces.append(answer[at : at + size])
        at += size
    whole = inserted(cut, [answer])
    assert inserted(cut, pieces) == whole
    assert inserted(cut, list(answer)) == whole


def test_a_splice_loses_or_repeats_a_character() -> None:
    """Another model broke off anywhere in the code, and Claude goes on from there."""
    for cut in cuts()[::10]:
        opening, closing = tags(cut)
        for at in range(1, len(cut.middle) if len(cut.middle) <= 200 else 0):
            already, rest = cut.middle[:at], cut.middle[at:]
            hole = Hole(cut.hole.prefix + already, cut.hole.suffix)
            cleaner = fim.Cleaner(hole, stops=(), max_tokens=None, already=already)
            spliced = already + cleaner.feed(f"{opening}{rest}{closing}") + cleaner.finish()
            assert spliced == cut.middle, (hole.prefix[-80:], rest)


def test_ordinary_code_waits() -> None:
    waits = []
    for cut in cuts():
        cleaner = fim.Cleaner(cut.hole, stops=("\n\n", "\n+++++"), max_tokens=None)
        assert cleaner.feed(tags(cut)[0]) == ""
        sent, waits_here = 0, [0]
        for received, character in enumerate(cut.middle, 1):
            sent += len(cleaner.feed(character))
            if cleaner.stopped:
                break
            waits_here.append(received - sent)
        waits.append(max(waits_here))
    waits.sort()
    # Only code that begins as the lines before it, or goes on as those after it, waits for longer than a word.
    assert waits[len(waits) // 2] <= 6
    assert waits[len(waits) * 99 // 100] <= 50
    assert waits[-1] <= 250
