from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.look.plot import Axis, PlotError, Point, png, svg

VALUES = st.floats() | st.integers() | st.text(max_size=40) | st.booleans() | st.none()


@given(st.text(max_size=20), st.lists(st.tuples(VALUES, st.floats() | st.integers()), max_size=12), st.booleans())
def test_whatever_is_drawn_is_xml_within_the_picture(
    title: str, values: list[tuple[object, float]], time: bool
) -> None:
    points = [Point(x, y, title) for x, y in values]
    try:
        root = ElementTree.fromstring(svg(title, Axis(title, time), Axis(title), points))
    except PlotError:
        return
    for circle in root.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 <= float(circle.attrib["cx"]) <= 720
        assert 0 <= float(circle.attrib["cy"]) <= 440


def test_texts_are_escaped() -> None:
    drawn = svg("<script>&", Axis("x"), Axis("y"), [Point(1, 2, '"><script>')])
    assert "<script>" not in drawn


@pytest.mark.parametrize("points", [[], [Point(1, math.nan, "")], [Point(math.inf, 1, "")]])
def test_nothing_to_draw_is_an_error(points: list[Point]) -> None:
    for draw in (svg, png):
        with pytest.raises(PlotError, match="no realization with a number"):
            draw("t", Axis("x"), Axis("y"), points)


def test_png_is_one() -> None:
    assert png("$x_{", Axis("x"), Axis("y"), [Point("a$", 1, ""), Point("b", 2, "", True)]).startswith(b"\x89PNG\r\n")
