"""How numbers are written for people.

Four significant digits unless more are asked for, no exponent between 0.0001 and a million, a true minus
sign, powers of ten as superscripts (1.2×10⁻⁶), thin spaces between thousands from five figures on. The
same number is always written in the same way, in text, tables and pictures.

Reference: the SI brochure, section 5.4 (formatting the value of a quantity).
"""

from __future__ import annotations

import math

from ..certificate import count

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MINUS = "\u2212"
#: Between thousands; it does not break.
THIN = "\u202f"
#: Sizes outside of which a power of ten is written.
SMALL, LARGE = 1e-4, 1e6


def number(x: float, digits: int = 4) -> str:
    """Write a number with so many significant digits at most; a dash where there is none.

    Examples
    --------
    >>> number(0.245592873), number(12345.6), number(-1.25e-7, 2)
    ('0.2456', '12\u202f346', '\u22121.2×10⁻⁷')
    """
    x = float(x)
    if not math.isfinite(x):
        return "—" if math.isnan(x) else ("∞" if x > 0 else MINUS + "∞")
    if x == 0.0:
        return "0"
    mantissa, power = f"{abs(x):.{max(digits, 1) - 1}e}".split("e")
    sign = MINUS if x < 0 else ""
    if SMALL <= abs(x) < LARGE:
        places = max(0, digits - 1 - int(power))
        # four figures need no help, and are often years
        grouping = "," if abs(x) >= 9999.5 else ""
        plain = f"{abs(x):{grouping}.{places}f}"
        return sign + (_trimmed(plain) if places else plain).replace(",", THIN)
    times = "" if _trimmed(mantissa) == "1" else f"{_trimmed(mantissa)}×"
    return f"{sign}{times}10{str(int(power)).translate(_SUPERSCRIPTS)}"


def _trimmed(decimal: str) -> str:
    return decimal.rstrip("0").rstrip(".") if "." in decimal else decimal


def signed(x: float, digits: int = 3) -> str:
    """Write a number with its sign, also where it is positive."""
    text = number(x, digits)
    return text if text.startswith(MINUS) or text in ("0", "—") else f"+{text}"


def percent(share: float, digits: int = 3) -> str:
    """Write a share of one as a percentage."""
    return number(share, digits) if math.isnan(share) else f"{number(100.0 * share, digits)}{THIN}%"


def part(share: float) -> str:
    """Write the share of some samples: whole percents, one decimal near none and all."""
    if 0.0 < share < 0.01 or 0.99 < share < 1.0:
        # a part that is not everything must not read as everything
        tenths = min(max(round(100.0 * share, 1), 0.1), 99.9)
        return f"{tenths:.1f}{THIN}%"
    return f"{100.0 * share:.0f}{THIN}%"


def things(k: int, noun: str) -> str:
    """Write a number of things."""
    return count(k, noun).replace(",", THIN)


def duration(seconds: float) -> str:
    """Write a time span."""
    if seconds < 1.0:
        return f"{number(1000.0 * seconds, 3)}{THIN}ms"
    if seconds < 120.0:
        return f"{number(seconds, 3)}{THIN}s"
    return f"{number(seconds / 60.0, 3)}{THIN}min"
