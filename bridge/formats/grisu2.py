"""Floats as nlohmann/json prints them: Grisu2, which gives the shortest digits nearly always.

    1. bounds      every decimal between the middles to both neighbours reads back as the float
    2. scale       the float and its bounds times a power of ten, so that 4 to 32 bits are integral
    3. digits      of the upper bound, until what is left out lies within the bounds
    4. round       the last digit down towards the float

The arithmetic has 64 bits, so that a scaled number may be wrong in its last bit. The bounds are drawn in
by one for that: of some hundreds of floats, one has its shortest decimal in what is cut off and gets a
longer one, however short it was (0.01207 becomes 0.012070000000000001). Which floats these are hangs on
every rounding here, and with them the text of structured attributes and so the paths of derivations.

Source: Florian Loitsch, "Printing Floating-Point Numbers Quickly and Accurately with Integers" (PLDI
2010), figures 5 to 7; nlohmann/json `to_chars` for the choice of powers, the rounding and the layout.
"""

from __future__ import annotations

import functools
import math

__all__ = ["digits", "power_of_ten", "to_text"]

_PRECISION = 64
_ALPHA = -60
"""The least binary exponent of a scaled number; the most is -32."""
_SOME_POWER = 4
_POWER_STEP = 8
"""The powers of ten that are scaled by: nlohmann has a table of every eighth, 4 among them."""

_MIN_POINT = -4
_MAX_POINT = 15
"""Where the decimal point stands, counted from the first digit: outside, the text has an exponent."""


def to_text(value: float) -> str:
    """A finite float as nlohmann/json prints it."""
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if value == 0:
        return f"{sign}0.0"
    number, exponent = digits(abs(value))
    text = str(number)
    size = len(text)
    point = size + exponent
    if 0 < point <= _MAX_POINT:
        return f"{sign}{text.ljust(point, '0')[:point]}.{text[point:] or '0'}"
    if _MIN_POINT < point <= 0:
        return f"{sign}0.{'0' * -point}{text}"
    fraction = f".{text[1:]}" if size > 1 else ""
    return f"{sign}{text[0]}{fraction}e{point - 1:+03}"


def digits(value: float) -> tuple[int, int]:
    """A number and a power of ten whose product reads back as `value`, which is finite and above zero."""
    low, middle, high, exponent = _bounds(value)
    ten, power, scale = _power_for(exponent)
    middle = _multiplied(middle, scale)
    # Each product may be wrong by one: only what lies surely within the bounds may be printed.
    low = _multiplied(low, scale) + 1
    high = _multiplied(high, scale) - 1
    number, left_out, unit, delta, distance, more = _shortest(high, high - low, high - middle, -(exponent + power + 64))
    # One less in the last digit, while that is still within the bounds and nearer to the value.
    while (
        left_out < distance
        and delta - left_out >= unit
        and (left_out + unit < distance or distance - left_out > left_out + unit - distance)
    ):
        number -= 1
        left_out += unit
    return number, more - ten


def _bounds(value: float) -> tuple[int, int, int, int]:
    """The lower bound, the value and the upper bound, of 64 bits, and the binary exponent of all three."""
    fraction, exponent = math.frexp(value)
    # Below the normal numbers there are fewer bits, all with the least exponent.
    exponent = max(exponent - 53, -1074)
    significand = int(math.ldexp(value, -exponent))
    # The neighbour below a power of two is nearer, but for the least normal number.
    quarter = 1 if fraction == 0.5 and exponent > -1074 else 2
    shift = _PRECISION - significand.bit_length()
    unit = 1 << shift
    middle = significand << shift
    return middle - quarter * unit // 4, middle, middle + unit // 2, exponent - shift


def _power_for(exponent: int) -> tuple[int, int, int]:
    """The power of ten that a number with this binary exponent is scaled by: of ten, of two, 64 bits."""
    # The least whole number not below the logarithm; the fraction is log10(2), exact enough for doubles.
    least = -(-(_ALPHA - exponent - 1) * 78913 >> 18)
    ten = least + (_SOME_POWER - least) % _POWER_STEP
    power, scale = power_of_ten(ten)
    return ten, power, scale


@functools.cache
def power_of_ten(ten: int) -> tuple[int, int]:
    """The power of two and the 64 bits whose product is nearest to a power of ten."""
    top, bottom = (10**ten, 1) if ten >= 0 else (1, 10**-ten)
    power = top.bit_length() - bottom.bit_length() - _PRECISION
    if power >= 0:
        bottom <<= power
    else:
        top <<= -power
    if top >= bottom << _PRECISION:
        bottom <<= 1
        power += 1
    return power, (2 * top + bottom) // (2 * bottom)


def _multiplied(number: int, scale: int) -> int:
    """The upper 64 bits of a product, rounded."""
    return number * scale + (1 << _PRECISION - 1) >> _PRECISION


def _shortest(high: int, delta: int, distance: int, bits: int) -> tuple[int, int, int, int, int, int]:
    """The first digits of `high`, as few as leave out no more than `delta`.

    Parameters
    ----------
    bits
        How many bits of the numbers are behind the binary point.

    Returns
    -------
    tuple
        The digits, what is left out, one of the last digit, `delta` and `distance` in the same
        unit, and the digits' power of ten.
    """
    whole = high >> bits
    more = len(str(whole))
    unit = 10**more << bits
    while more > 0:
        more -= 1
        unit //= 10
        left_out = high % unit
        if left_out <= delta:
            return high // unit, left_out, unit, delta, distance, more
    number, left_out = whole, high - (whole << bits)
    while left_out > delta:
        left_out *= 10
        delta *= 10
        distance *= 10
        more -= 1
        number = 10 * number + (left_out >> bits)
        left_out &= unit - 1
    return number, left_out, unit, delta, distance, more
