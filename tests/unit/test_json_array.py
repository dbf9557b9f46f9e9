"""A JSON array that grows: named by the element that would be lost, torn or made up."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.json_array import ArrayReader, ArrayWriter
from proxy.sse import Event, EventTooLarge

PRETTY = b'[{\n  "a": "x]}\\"[,",\n  "b": [1, {"c": 2}]\n}\n,\r\n{\n  "d": "\\\\"\n}\n,\r\n{}\n]\n'


def read(*pieces: bytes, limit: int = 1 << 20) -> list[tuple[bytes, Event | None]]:
    reader = ArrayReader(limit=limit)
    return [block for piece in pieces for block in reader.blocks(piece)]


def elements(*pieces: bytes) -> list[bytes]:
    return [event.data for _, event in read(*pieces) if event is not None]


def test_googles_elements_are_not_told_apart() -> None:
    assert [json.loads(element) for element in elements(PRETTY)] == [
        {"a": 'x]}"[,', "b": [1, {"c": 2}]},
        {"d": "\\"},
        {},
    ]


@pytest.mark.parametrize("size", range(1, 12))
def test_a_piece_tears_an_element(size: int) -> None:
    pieces = [PRETTY[at : at + size] for at in range(0, len(PRETTY), size)]
    assert elements(*pieces) == elements(PRETTY)
    assert b"".join(raw for raw, _ in read(*pieces)) == PRETTY


def test_an_element_waits_for_the_comma_behind_it() -> None:
    reader = ArrayReader()
    assert reader.blocks(b'[{"a": 1}') == [(b'[{"a": 1}', Event("", b'{"a": 1}'))]
    assert reader.blocks(b"\n") == []
    assert reader.blocks(b',{"a": 2}') == [(b'\n,{"a": 2}', Event("", b'{"a": 2}'))]


def test_an_element_loses_its_separator() -> None:
    assert read(b"[{}\n,\r\n{}\n]\n") == [
        (b"[{}\n", Event("", b"{}")),
        (b",\r\n{}\n", Event("", b"{}")),
        (b"]\n", None),
    ]


def test_the_end_of_an_elements_line_waits_for_the_next_element() -> None:
    """Clients that read Google's arrays by hand look for the line end behind an element, in the same piece."""
    reader = ArrayReader()
    for piece in (b'[{"a": 1}\n', b',\r\n{"a": 2}\n', b"]"):
        assert b"".join(raw for raw, _ in reader.blocks(piece)) == piece


@pytest.mark.parametrize("array", [b"[]", b" [ ]", b"[{}]", b"[[1]]"])
def test_the_end_of_the_array_is_not_seen(array: bytes) -> None:
    reader = ArrayReader()
    reader.blocks(array[:-1])
    assert not reader.closed
    (_, event), *others = reader.blocks(array[-1:])
    assert (event, others, reader.closed) == (None, [], True)


def test_a_bracket_in_a_string_or_an_element_closes_the_array() -> None:
    reader = ArrayReader()
    reader.blocks(b'[{"a": "]", "b": []},[1]')
    assert not reader.closed


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (b"[{},xyz,{}]", [b"{}", b"xyz", b"{}"]),
        (b"[{} xyz ,{}]", [b"{}", b"xyz", b"{}"]),
        (b"[{},xyz{}]", [b"{}", b"xyz{}"]),
        (b"[{},,{}]", [b"{}", b"", b"{}"]),
        (b"[{},]", [b"{}", b""]),
        (b"[,{}]", [b"", b"{}"]),
        (b'[1,"a"]', [b"1", b'"a"']),
        (b"[{},}]", [b"{}", b"}"]),
        (b"[{}]]", [b"{}", b"]"]),
        (b"[{}]\nx", [b"{}", b"x"]),
    ],
)
def test_garbage_passes_unseen(array: bytes, found: list[bytes]) -> None:
    assert elements(array) == elements(*(array[at : at + 1] for at in range(len(array)))) == found


def test_what_is_no_array_looks_like_one() -> None:
    assert elements(b'{"error": 1}')[0] == b"{"
    assert elements(b"<html>,")[0] == b"<html>,"


@pytest.mark.parametrize("broken", [b'{"a": {"ro', b'{"a": [', b'{"a": "b\\', b'{"a": "b\\"', b"{", b'"a'])
def test_a_broken_element_swallows_those_behind_it(broken: bytes) -> None:
    array = b"[{}\n,\r\n" + broken + b'\n,\r\n{"b": [1]}\n,\r\n{}\n]'
    for size in (1, 2, 3, len(array)):
        pieces = [array[at : at + size] for at in range(0, len(array), size)]
        assert elements(*pieces) == [b"{}", broken, b'{"b": [1]}', b"{}"]
        assert b"".join(raw for raw, _ in read(*pieces)) == array


@given(st.lists(st.dictionaries(st.text(), st.text() | st.lists(st.integers())), max_size=5), st.data())
def test_an_element_depends_on_the_pieces(values: list[dict[str, object]], data: st.DataObject) -> None:
    indent = data.draw(st.sampled_from([None, 2]))
    separator = data.draw(st.sampled_from([",", ", ", "\n,\r\n", " ,\n"]))
    array = ("[" + separator.join(json.dumps(value, indent=indent) for value in values) + "]").encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(array)), max_size=8)))
    pieces = [array[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(array)], strict=True)]
    assert [json.loads(element) for element in elements(*pieces)] == values
    assert b"".join(raw for raw, _ in read(*pieces)) == array


@pytest.mark.parametrize(
    "pieces",
    [
        (b'[{"a": "' + b"x" * 100,),
        (b"[" + b"x" * 40, b"x" * 40),
        (b'[{"a": "' + b"x" * 100 + b'"}]',),
        (b"[" + b"{" * 40, b"{" * 40),
        (b" " * 40, b" " * 40),
        (b'[{"a": "' + b"x" * 100 + b"\n,\r\n{}]",),
    ],
    ids=["open string", "garbage in pieces", "element", "depth", "white space", "broken element"],
)
def test_a_broken_stream_fills_the_memory(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(EventTooLarge):
        read(*pieces, limit=64)


def test_the_limit_adds_up_over_elements() -> None:
    assert len(read(b"[" + b",".join([b'{"a": "0123456789"}'] * 50) + b"]", limit=64)) == 51


@pytest.mark.parametrize(
    "content", [b'"' + b"\\n" * 200_000 + b'"', b"[" + b"1," * 200_000 + b"1]", b"[" * 200_000, b'"' * 400_000]
)
def test_a_long_element_is_read_anew_with_each_piece(content: bytes) -> None:
    def seconds(size: int) -> float:
        array = (b"[" + content)[:size]
        begin = time.process_time()
        read(*(array[at : at + 256] for at in range(0, size, 256)))
        return time.process_time() - begin

    seconds(1_000)
    # Read anew with each piece, four times as much would take sixteen times as long.
    assert seconds(400_000) < 10 * max(seconds(100_000), 0.002)


def test_an_unfinished_element_is_lost_or_taken_for_whole() -> None:
    reader = ArrayReader()
    reader.blocks(b'[{}\n,\r\n{"a": ')
    rest = reader.rest()
    assert rest == b',\r\n{"a": '
    assert reader.parse(rest) == Event("", b'{"a":')
    assert reader.rest() == b""
    for nothing in (b"", b"\n", b"[", b" ,\r\n"):
        assert reader.parse(nothing) is None


class TestWriter:
    def test_what_is_written_is_no_json(self) -> None:
        writer = ArrayWriter()
        array = writer.element(b"{}") + writer.element(b'{"a": 1}') + writer.close()
        assert array == b'[{}\n,\r\n{"a": 1}\n]'

    def test_an_array_without_elements_is_never_begun(self) -> None:
        assert ArrayWriter().close() == b"[]"

    def test_a_stream_that_goes_on_begins_anew(self) -> None:
        writer = ArrayWriter(begun=True)
        assert writer.element(b"{}") + writer.close() == b",\r\n{}\n]"
        assert ArrayWriter(begun=True).close() == b"]"
