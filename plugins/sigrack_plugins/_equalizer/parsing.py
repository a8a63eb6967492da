"""From the text of an Equalizer APO configuration to commands.

The syntax is that of Equalizer APO's configuration reference (https://sourceforge.net/p/equalizerapo/wiki/Configuration%20reference/,
version 1.3), which AutoEq's ParametricEQ.txt and GraphicEQ.txt follow too. Equalizer APO ignores what it does not
understand; here that is an error, since a line that does nothing is never what its author wants.
"""

import re
from collections.abc import Callable
from pathlib import Path

from sigrack_plugins._equalizer.commands import Command, Copy, Delay, Filter, GraphicEq, Iir, Include, Preamp, Select
from sigrack_plugins._equalizer.text import NUMBER, lines_of, nearest, number, quoted, read

__all__ = ["COMMANDS", "FOREIGN_TYPES", "REFUSED", "TYPES", "parse", "parse_file"]

MOST_COMMANDS = 1000
MOST_INCLUDES = 8
"""How deep files may include files."""
MOST_ORDER = 64
RANGES = {
    "BW Oct": (0.001, 10.0),
    "Copy": (-1000.0, 1000.0),
    "Gain": (-120.0, 60.0),
    "Preamp": (-120.0, 60.0),
    "Q": (0.01, 1000.0),
    "slope": (0.1, 48.0),
}
LOWEST_HZ = 1.0
"""The highest is half the rate, which is known later."""

TYPES = {
    "PK": "PK",
    "PEQ": "PK",
    "Modal": "PK",
    "LP": "LP",
    "LPQ": "LP",
    "HP": "HP",
    "HPQ": "HP",
    "BP": "BP",
    "NO": "NO",
    "AP": "AP",
    "LS": "LS",
    "LSC": "LS",
    "HS": "HS",
    "HSC": "HS",
    "IIR": "IIR",
    "None": "None",
}
FOREIGN_TYPES = {
    "Notch": "write NO",
    "All": "write AP",
    "LP1": "filters of the first order are not in this format; write them as IIR",
    "HP1": "filters of the first order are not in this format; write them as IIR",
}
"""Room EQ Wizard's names for what Equalizer APO does not read, or reads as something else."""

REFUSED = {
    "Convolution": "give the impulse response a slot of its own",
    "Else": "write a text for each case",
    "ElseIf": "write a text for each case",
    "EndIf": "write a text for each case",
    "Eval": "write the numbers themselves",
    "If": "write a text for each case",
    "LoudnessCorrection": "it follows Windows' volume, and is not linear over time",
    "VSTPlugin": "give the plugin a slot of its own",
}

_GROUPS = r"[1-9]\d{0,2}(?:[ \u00a0\u2009\u202f]\d{3})+(?:[.,]\d+)?"
"""Thousands apart, by a plain, a no-break, a thin or a narrow no-break space."""
_SLOPE = re.compile(rf"({NUMBER})\s*dB(?!\w)", re.IGNORECASE)
_KEYS = {
    "Fc": (re.compile(rf"Fc\s*({_GROUPS}|{NUMBER})\s*H\s*z(?!\w)", re.IGNORECASE), "Fc 105 Hz"),
    "Gain": (re.compile(rf"Gain\s*({NUMBER})\s*dB(?!\w)", re.IGNORECASE), "Gain -4.2 dB"),
    "Q": (re.compile(rf"Q\s*({NUMBER})(?!\S)", re.IGNORECASE), "Q 0.70"),
    "BW": (re.compile(rf"BW\s+Oct\s*({NUMBER})(?!\S)", re.IGNORECASE), "BW Oct 0.5"),
    "T60": (re.compile(rf"T60\s+target\s*({NUMBER})\s*ms(?!\w)", re.IGNORECASE), "T60 target 300 ms"),
}


def parse(text: str, name: str = "text") -> tuple[Command, ...]:
    """Return the commands of a text; `name` is what messages call it. Raises ValueError in one line. [any]"""
    return _Parser().parse(text, name, None, 0)


def parse_file(path: Path) -> tuple[Command, ...]:
    """Return the commands of a file and of those that it includes. Raises ValueError in one line. [worker]"""
    return _Parser().parse(read(path), str(path), path.parent, 0)


class _Parser:
    """Knows how many commands there are already, and where included files lie."""

    def __init__(self) -> None:
        self._count = 0

    def parse(self, text: str, name: str, folder: Path | None, depth: int) -> tuple[Command, ...]:
        commands: list[Command] = []
        lines = lines_of(text)
        if not lines:
            raise ValueError(f"{name} holds no filter")
        for at, line in lines:
            place = f"{name}:{at}"
            self._count += 1
            if self._count > MOST_COMMANDS:
                raise ValueError(f"{place}: more than {MOST_COMMANDS} lines")
            key, value = _split(place, line)
            if key == "Include":
                commands.append(self._include(place, value, folder, depth))
                continue
            try:
                command = COMMANDS[key](place, value)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
            if command is not None:
                commands.append(command)
        return tuple(commands)

    def _include(self, place: str, value: str, folder: Path | None, depth: int) -> Include:
        if folder is None:
            raise ValueError(f"{place}: Include: only a file can include files; put the text into one")
        if depth == MOST_INCLUDES:
            raise ValueError(f"{place}: Include: more than {MOST_INCLUDES} files deep; does a file include itself?")
        path = folder / value.replace("\\", "/")
        try:
            text = read(path)
        except ValueError as error:
            raise ValueError(f"{place}: Include: {str(error).removeprefix('file: ')}") from None
        return Include(place, self.parse(text, str(path), path.parent, depth + 1))


def _split(place: str, line: str) -> tuple[str, str]:
    """Return the command's name as in `COMMANDS`, and what follows the colon."""
    name, colon, value = line.partition(":")
    name, value = name.strip(), value.strip()
    if not colon:
        raise ValueError(f'{place}: {quoted(line)} is no command: it has no colon; a comment begins with "#"')
    if "`" in value:
        raise ValueError(f"{place}: expressions in ` are not computed: write the numbers themselves")
    plain = re.sub(r"^filter\d+$", "filter", name.replace(" ", "").lower())
    key = {one.lower(): one for one in [*COMMANDS, "Include", *REFUSED]}.get(plain)
    if key is None:
        raise ValueError(f"{place}: unknown command {quoted(name)}{nearest(name, [*COMMANDS, 'Include'])}")
    if key in REFUSED:
        raise ValueError(f"{place}: {key} is not supported: {REFUSED[key]}")
    return key, value


def _ranged(text: str, what: str) -> float:
    """A number within `RANGES`."""
    value = number(text, what)
    low, high = RANGES[what]
    if not low <= value <= high:
        raise ValueError(f"{what}: {value:g} is not within {low:g} to {high:g}")
    return value


# Filters


def _filter(place: str, value: str) -> Command | None:
    state, rest = [*value.split(maxsplit=1), "", ""][:2]
    if state.upper() == "OFF":
        return None
    if state.upper() != "ON":
        raise ValueError(f"Filter: {quoted(state)} is neither ON nor OFF")
    found = re.match(r"\s*([A-Za-z]\w*)\s*", rest)
    if found is None:
        raise ValueError(f"Filter: a type must follow ON{nearest('', TYPES)}")
    name, rest = found[1], rest[found.end() :]
    known = {one.lower(): one for one in TYPES}.get(name.lower())
    if known is None:
        foreign = {one.lower(): one for one in FOREIGN_TYPES}.get(name.lower())
        hint = f": {FOREIGN_TYPES[foreign]}" if foreign else nearest(name, TYPES)
        raise ValueError(f"unknown filter type {quoted(name)}{hint}")
    if known == "None":
        return None
    return _iir(place, rest) if known == "IIR" else _biquad(place, known, rest)


def _biquad(place: str, name: str, rest: str) -> Filter:
    kind = TYPES[name]
    shelf = kind in ("LS", "HS")
    if shelf and re.match(r"Q\s+Fc\b", rest, re.IGNORECASE):
        raise ValueError(f"{name} Q is Room EQ Wizard's: write {name}C and its centre frequency, or {name} and its corner")
    if kind in ("LP", "HP"):
        rest = re.sub(r"^Q\s+(?=Fc\b)", "", rest, flags=re.IGNORECASE)  # Room EQ Wizard's LP Q and HP Q
    slope_db, rest = _slope(name, shelf, rest)
    values = _values(name, rest)
    if "Fc" not in values:
        raise ValueError(f'{name}: a frequency is missing, such as "Fc 105 Hz"')
    gain_db = _gain(name, kind, values)
    width = [key for key in ("Q", "BW") if key in values] + ["slope"] * (slope_db is not None)
    if len(width) > 1:
        raise ValueError(f"{name}: {' and '.join(width)} say the same: leave one of them out")
    if shelf and "BW" in values:
        raise ValueError(f"{name}: a shelf has no BW: give a slope or Q")
    if kind in ("PK", "AP") and not width:
        raise ValueError(f'{name}: a width is missing, such as "Q 0.70" or "BW Oct 0.5"')
    q, bandwidth_oct = values.get("Q"), values.get("BW")
    return Filter(
        place,
        name,
        kind,
        _frequency(name, values["Fc"]),
        gain_db,
        None if q is None else _ranged(q, "Q"),
        None if bandwidth_oct is None else _ranged(bandwidth_oct, "BW Oct"),
        slope_db,
        at_corner=bool(width) and name in ("LS", "HS"),
    )


def _slope(name: str, shelf: bool, rest: str) -> tuple[float | None, str]:
    """`6 dB` right behind the type, and what follows it."""
    found = _SLOPE.match(rest)
    if found is None:
        return None, rest
    if not shelf:
        raise ValueError(f"{name}: only shelves have a slope, not {quoted(found[0])}")
    return _ranged(found[1], "slope"), rest[found.end() :]


def _values(name: str, rest: str) -> dict[str, str]:
    """The keys of a filter, each with its number as written."""
    values: dict[str, str] = {}
    while rest := rest.strip():
        word = re.match(r"T60|[A-Za-z]*", rest, re.IGNORECASE)
        assert word is not None
        key = {one.lower(): one for one in _KEYS}.get(word[0].lower())
        if key is None:
            raise ValueError(f"{name}: {quoted(rest)} is not understood{nearest(word[0], _KEYS)}")
        pattern, example = _KEYS[key]
        found = pattern.match(rest)
        if found is None:
            raise ValueError(f'{name}: {quoted(rest)} is not understood: write it as in "{example}"')
        if key in values:
            raise ValueError(f"{name}: {key} is given twice")
        values[key] = found[1]
        rest = rest[found.end() :]
    return values


def _gain(name: str, kind: str, values: dict[str, str]) -> float:
    gain_db = _ranged(values["Gain"], "Gain") if "Gain" in values else None
    if kind in ("PK", "LS", "HS"):
        if gain_db is None:
            raise ValueError(f'{name}: a gain is missing, such as "Gain -4.2 dB"')
        return gain_db
    if gain_db:
        raise ValueError(f"{name}: this type has no gain; use a Preamp")
    return 0.0


def _frequency(name: str, text: str) -> float:
    """A frequency. Three digits behind a point or a comma are thousands, as Room EQ Wizard writes and Equalizer APO reads."""
    text = re.sub(r"[ \u00a0\u2009\u202f]", "", text)
    frequency_hz = number(text, "Fc") * (1000.0 if re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", text) else 1.0)
    if frequency_hz < LOWEST_HZ:
        raise ValueError(f"{name}: Fc {frequency_hz:g} Hz is below {LOWEST_HZ:g} Hz")
    return frequency_hz


def _iir(place: str, rest: str) -> Iir:
    found = re.fullmatch(r"Order\s+(\d{1,4})\s+Coefficients\s+(.*)", rest.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError('IIR: write it as in "IIR Order 1 Coefficients 0.5 0.5 1 0": the numerator, then the denominator')
    order, values = int(found[1]), tuple(number(one, "IIR") for one in found[2].split())
    if not 1 <= order <= MOST_ORDER:
        raise ValueError(f"IIR: an order of {order} is not within 1 to {MOST_ORDER}")
    if len(values) != 2 * (order + 1):
        raise ValueError(f"IIR: order {order} takes {2 * (order + 1)} coefficients, not {len(values)}")
    if not values[order + 1]:
        raise ValueError("IIR: the denominator begins with 0")
    return Iir(place, values[: order + 1], values[order + 1 :])


# Other commands


def _preamp(place: str, value: str) -> Preamp:
    found = re.fullmatch(r"(\S+?)\s*(?:dB)?", value, re.IGNORECASE)
    if found is None:
        raise ValueError(f'Preamp: {quoted(value)} is not understood: write it as in "Preamp: -6.5 dB"')
    return Preamp(place, _ranged(found[1], "Preamp"))


def _delay(place: str, value: str) -> Delay:
    found = re.fullmatch(r"(\S+?)\s*(ms|samples)", value, re.IGNORECASE)
    if found is None:
        raise ValueError(f'Delay: {quoted(value)} is not understood: write it as in "Delay: 3 ms" or "Delay: 12 samples"')
    amount = number(found[1], "Delay")
    if amount < 0:
        raise ValueError(f"Delay: {amount:g} is negative: delay the other channels")
    return Delay(place, amount, found[2].lower().startswith("m"))


def _graphic_eq(place: str, value: str) -> GraphicEq:
    points: dict[float, float] = {}
    for pair in filter(None, (pair.strip() for pair in value.split(";"))):
        words = pair.split()
        if len(words) != 2:
            raise ValueError(f'GraphicEQ: {quoted(pair)} is no pair of a frequency and a gain such as "25 1.2"')
        frequency_hz, gain_db = number(words[0], "GraphicEQ"), _ranged(words[1], "Gain")
        if frequency_hz < LOWEST_HZ:
            raise ValueError(f"GraphicEQ: {frequency_hz:g} Hz is below {LOWEST_HZ:g} Hz")
        if points.setdefault(frequency_hz, gain_db) != gain_db:
            raise ValueError(f"GraphicEQ: {frequency_hz:g} Hz has two gains, {points[frequency_hz]:g} and {gain_db:g} dB")
    if not points:
        raise ValueError('GraphicEQ: no points; write it as in "GraphicEQ: 20 0; 25 1.2"')
    return GraphicEq(place, tuple(sorted(points.items())))


def _channel(place: str, value: str) -> Select:
    if not value:
        raise ValueError('Channel: no channels; write "Channel: ALL" for all of them')
    return Select(place, tuple(word.upper() for word in value.split()))


def _copy(place: str, value: str) -> Copy:
    sums: dict[str, tuple[tuple[float, str], ...]] = {}
    for assignment in value.split():
        target, equals, terms = assignment.upper().partition("=")
        if not (equals and target and terms):
            raise ValueError(f'Copy: {quoted(assignment)} is not understood: write it as in "L=L+0.5*R", without spaces')
        if target in sums:
            raise ValueError(f"Copy: {target} is set twice in one line")
        sums[target] = tuple(term for term in map(_term, terms.split("+")) if term is not None)
    if not sums:
        raise ValueError('Copy: no channels; write it as in "Copy: L=L+0.5*R"')
    return Copy(place, tuple(sums.items()))


def _term(text: str) -> tuple[float, str] | None:
    """`R`, `0.5*R` or `-6DB*R`; None for 0."""
    factor, star, channel = text.partition("*")
    if not star and re.fullmatch(r"0|[-+]?\d*[.,]\d*", text):
        if number(text, "Copy"):
            raise ValueError(f"Copy: {text} is a constant, not a channel: a constant is no filter; only 0.0 can be")
        return None
    if not star:
        return 1.0, text
    if factor.endswith("DB"):
        return 10.0 ** (_ranged(factor[:-2], "Gain") / 20.0), channel
    return _ranged(factor, "Copy"), channel


def _device(place: str, value: str) -> None:
    if "all" not in (pattern.strip().lower() for pattern in value.split(";")):
        raise ValueError(f"Device: {quoted(value)}: a rack knows no devices; leave the line out, or write all")


def _stage(place: str, value: str) -> None:
    if "post-mix" not in value.lower().split():
        raise ValueError(f"Stage: {quoted(value)}: a rack has only the stage post-mix; leave out what is not for it")


COMMANDS: dict[str, Callable[[str, str], Command | None]] = {
    "Preamp": _preamp,
    "Filter": _filter,
    "Delay": _delay,
    "GraphicEQ": _graphic_eq,
    "Channel": _channel,
    "Copy": _copy,
    "Device": _device,
    "Stage": _stage,
}
