"""The equaliser's texts: what is read, how numbers may be written, what is refused and with which words."""

import random
from pathlib import Path

import numpy as np
import pytest

from sigrack_plugins._equalizer.commands import Command, Copy, Delay, Filter, GraphicEq, Iir, Include, Preamp, Select
from sigrack_plugins._equalizer.parsing import REFUSED, TYPES, parse, parse_file
from sigrack_plugins._equalizer.response import taps_of
from sigrack_plugins._equalizer.stages import stages_of

REW = """\
Filter Settings file

Room EQ V5.20
Dated: 3 Mar 2020 10:11:12

Notes: a room, with the door open

Equaliser: Generic
Left speaker
Filter  1: ON  PK       Fc   63.00 Hz  Gain  -7.0 dB  Q 8.000
Filter  2: ON  None
Filter  3: OFF PK       Fc   99.00 Hz  Gain  -7.0 dB  Q 8.000
Filter  4: ON  LP Q     Fc   1,250 Hz  Q 0.71
"""
"""As Room EQ Wizard writes its filters."""


def one(text: str) -> Command:
    """The only command of a text."""
    (command,) = parse(text)
    return command


def peak(frequency_hz: float, gain_db: float, q: float) -> Filter:
    """A peaking filter in line 1."""
    return Filter("text:1", "PK", "PK", frequency_hz, gain_db, q)


def refusal(text: str, rate_hz: int = 48_000, channels: int = 2) -> str:
    """The one line with which a text is refused."""
    with pytest.raises(ValueError, match=r"^.*\Z") as info:
        stages_of(parse(text), rate_hz, channels)
    return str(info.value)


# What is read


@pytest.mark.parametrize(
    "line",
    [
        "Filter 1: ON PK Fc 105 Hz Gain -4.2 dB Q 0.70",
        "Filter:ON PK Fc 105 Hz Gain -4.2 dB Q 0.70",
        "  filter  12 :\ton  pk\tFc 105.0 Hz   Gain -4.20 dB  Q 0.700  # a comment",
        "FILTER 1: ON PK FC 105 HZ GAIN -4.2 DB Q .7",
        "Filter 1: ON PK Fc 105Hz Gain -4.2dB Q 0.7",
        "Filter 1: ON PK Fc 105 H z Gain -4.2 dB Q 0.7",
        "Filter 1: ON PK Fc 105,0 Hz Gain -4,2 dB Q 0,70",
        "Filter 1: ON PK Gain -4.2e0 dB Q 7e-1 Fc +105 Hz",
    ],
)
def test_ways_to_write_a_filter(line: str) -> None:
    """Case, spaces, order, decimal commas and comments do not matter."""
    assert peak(105.0, -4.2, 0.7) == one(line)


@pytest.mark.parametrize(
    ("written", "hz"),
    [
        ("1000", 1000.0),
        ("1 000", 1000.0),
        ("1\u00a0000", 1000.0),
        ("1\u202f250,5", 1250.5),
        ("1\u2009000.0", 1000.0),
        ("1,250", 1250.0),
        ("1.250", 1250.0),
        ("12.500", 12_500.0),
        ("12.50", 12.5),
        ("63,5", 63.5),
        ("1000.000", 1000.0),
        ("1e3", 1000.0),
    ],
)
def test_frequencies(written: str, hz: float) -> None:
    """Thousands may stand apart; three digits behind a point or a comma are thousands, as Equalizer APO reads them."""
    assert peak(hz, 1.0, 1.0) == one(f"Filter 1: ON PK Fc {written} Hz Gain 1 dB Q 1")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("Preamp: -6.5 dB", Preamp("text:1", -6.5)),
        ("preamp: -6,5 DB", Preamp("text:1", -6.5)),
        ("Preamp: 3", Preamp("text:1", 3.0)),
        ("Delay: 3 ms", Delay("text:1", 3.0, in_ms=True)),
        ("Delay: 12 Samples", Delay("text:1", 12.0, in_ms=False)),
        ("Channel: l R 3 all", Select("text:1", ("L", "R", "3", "ALL"))),
        ("GraphicEQ: 100 2; 20 -1,5;", GraphicEq("text:1", ((20.0, -1.5), (100.0, 2.0)))),
        ("Copy: l=L+-0.5*r R=0.0", Copy("text:1", (("L", ((1.0, "L"), (-0.5, "R"))), ("R", ())))),
        ("Copy: C=20dB*1", Copy("text:1", (("C", ((10.0, "1"),)),))),
        ("Filter: ON IIR Order 1 Coefficients 0.5 0.5 1 0", Iir("text:1", (0.5, 0.5), (1.0, 0.0))),
        ("Filter: ON LSC 6 dB Fc 90 Hz Gain 3 dB", Filter("text:1", "LSC", "LS", 90.0, 3.0, slope_db=6.0)),
        ("Filter: ON HS 12dB Fc 90 Hz Gain 3 dB", Filter("text:1", "HS", "HS", 90.0, 3.0, slope_db=12.0, at_corner=True)),
        ("Filter: ON LS Fc 90 Hz Gain 3 dB", Filter("text:1", "LS", "LS", 90.0, 3.0)),
        ("Filter: ON BP Fc 90 Hz BW Oct 0.5", Filter("text:1", "BP", "BP", 90.0, bandwidth_oct=0.5)),
    ],
)
def test_commands(line: str, command: Command) -> None:
    """Each command becomes what it says."""
    assert command == one(line)


@pytest.mark.parametrize(
    "line", ["Filter 1: OFF PK Fc", "Filter: OFF", "Filter: ON None", "Device: all", "Stage: post-mix capture"]
)
def test_lines_that_change_nothing(line: str) -> None:
    """A filter that is off, and what always holds in a rack, are read and do nothing."""
    assert () == parse(line)


def test_room_eq_wizard() -> None:
    """The head of a file of Room EQ Wizard is passed over, and lines keep their numbers."""
    first, second = parse(REW)

    assert Filter("text:10", "PK", "PK", 63.0, -7.0, 8.0) == first
    assert Filter("text:13", "LP", "LP", 1250.0, q=0.71) == second


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings(tmp_path: Path, encoding: str, end: str) -> None:
    """UTF-8, UTF-16 with and without a mark, and Windows' own code page are read, with any line ends."""
    path = tmp_path / "eq.txt"
    path.write_bytes(end.join(["# für den Kopfhörer", "", "Preamp: -3 dB", "Filter: ON HP Fc 1\u00a0000 Hz"]).encode(encoding))

    assert (Preamp(f"{path}:3", -3.0), Filter(f"{path}:4", "HP", "HP", 1000.0)) == parse_file(path)


def test_include(tmp_path: Path) -> None:
    """An included file lies beside the one that names it, and a channel that it selects is selected in it only."""
    (tmp_path / "sub").mkdir()
    main, other, last = tmp_path / "main.txt", tmp_path / "sub" / "other.txt", tmp_path / "sub" / "last.txt"
    main.write_text("Channel: R\nInclude: sub\\other.txt\nPreamp: 6 dB\n")
    other.write_text("Channel: L\nInclude: last.txt\n")
    last.write_text("Delay: 5 samples\n")
    commands = parse_file(main)
    (stage,) = stages_of(commands, 48_000, 2)

    assert isinstance(commands[1], Include)
    assert [5, 0] == [strip.delay_frames for strip in stage.strips]
    assert [1.0, pytest.approx(1.9953, abs=1e-4)] == [strip.gain for strip in stage.strips]


# What is refused


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_commands_that_are_refused(name: str) -> None:
    """What Equalizer APO has and a rack does not is refused by its name, with the way out."""
    assert f"text:2: {name} is not supported: {REFUSED[name]}" == refusal(f"Preamp: -3 dB\n{name}: x")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Filtr 1: ON PK", 'unknown command "Filtr 1"; did you mean "Filter"?'),
        ("Xyz: 3", 'unknown command "Xyz"; valid: Preamp, Filter, Delay, GraphicEQ, Channel, Copy, Device, Stage, Include'),
        ("Preamp -6 dB", '"Preamp -6 dB" is no command: it has no colon; a comment begins with "#"'),
        ("Preamp: -6 dB `gain`", "expressions in ` are not computed: write the numbers themselves"),
        (
            "Loudness Correction: 1",
            "LoudnessCorrection is not supported: it follows Windows' volume, and is not linear over time",
        ),
        ("Filter: OF PK", 'Filter: "OF" is neither ON nor OFF'),
        ("Filter: ON", f"Filter: a type must follow ON; valid: {', '.join(TYPES)}"),
        ("Filter: ON PKK Fc 10 Hz", 'unknown filter type "PKK"; did you mean "PK"?'),
        ("Filter: ON Notch Fc 10 Hz", 'unknown filter type "Notch": write NO'),
        ("Filter: ON All pass Fc 10 Hz", 'unknown filter type "All": write AP'),
        (
            "Filter: ON LP1 Fc 10 Hz",
            'unknown filter type "LP1": filters of the first order are not in this format; write them as IIR',
        ),
        ("Filter: ON LS Q Fc 10 Hz", "LS Q is Room EQ Wizard's: write LSC and its centre frequency, or LS and its corner"),
        ("Filter: ON PK Gain 3 dB Q 1", 'PK: a frequency is missing, such as "Fc 105 Hz"'),
        ("Filter: ON PK Fc 10 Hz Q 1", 'PK: a gain is missing, such as "Gain -4.2 dB"'),
        ("Filter: ON PK Fc 10 Hz Gain 3 dB", 'PK: a width is missing, such as "Q 0.70" or "BW Oct 0.5"'),
        ("Filter: ON AP Fc 10 Hz", 'AP: a width is missing, such as "Q 0.70" or "BW Oct 0.5"'),
        ("Filter: ON LP Fc 10 Hz Gain 3 dB", "LP: this type has no gain; use a Preamp"),
        ("Filter: ON LP 6 dB Fc 10 Hz", 'LP: only shelves have a slope, not "6 dB"'),
        ("Filter: ON PK Fc 10 Hz Gain 3 dB Q 1 BW Oct 1", "PK: Q and BW say the same: leave one of them out"),
        ("Filter: ON LS 6 dB Fc 10 Hz Gain 3 dB Q 1", "LS: Q and slope say the same: leave one of them out"),
        ("Filter: ON LS Fc 10 Hz Gain 3 dB BW Oct 1", "LS: a shelf has no BW: give a slope or Q"),
        ("Filter: ON PK Fc 10 Hz Fc 20 Hz", "PK: Fc is given twice"),
        ("Filter: ON PK Fc 1 kHz", 'PK: "Fc 1 kHz" is not understood: write it as in "Fc 105 Hz"'),
        ("Filter: ON PK Fc 10 Hz Gain 3", 'PK: "Gain 3" is not understood: write it as in "Gain -4.2 dB"'),
        ("Filter: ON PK Fc 10 Hz Gane 3 dB", 'PK: "Gane 3 dB" is not understood; did you mean "Gain"?'),
        ("Filter: ON PK Fc 10 Hz Q 1x", 'PK: "Q 1x" is not understood: write it as in "Q 0.70"'),
        ("Filter: ON PK Fc 0.5 Hz Gain 3 dB Q 1", "PK: Fc 0.5 Hz is below 1 Hz"),
        ("Filter: ON PK Fc -10 Hz Gain 3 dB Q 1", "PK: Fc -10 Hz is below 1 Hz"),
        ("Filter: ON PK Fc 1e999 Hz Gain 3 dB Q 1", 'Fc: "1e999" is too large'),
        ("Filter: ON PK Fc 10 Hz Gain 61 dB Q 1", "Gain: 61 is not within -120 to 60"),
        ("Filter: ON PK Fc 10 Hz Gain 3 dB Q 0", "Q: 0 is not within 0.01 to 1000"),
        ("Filter: ON PK Fc 10 Hz Gain 3 dB BW Oct 11", "BW Oct: 11 is not within 0.001 to 10"),
        ("Filter: ON LS 0 dB Fc 10 Hz Gain 3 dB", "slope: 0 is not within 0.1 to 48"),
        (
            "Filter: ON PK Fc 24000 Hz Gain 3 dB Q 1",
            "PK: Fc 24000 Hz is not below half the rate, 24000 Hz: leave the filter out, or use a source with a higher rate",
        ),
        (
            "Filter: ON LS 6dB Fc 15000 Hz Gain 12 dB",
            "LS: Fc 15000 Hz has its centre at 29928.9 Hz, which is not below half the rate, 24000 Hz: "
            "leave the filter out, or use a source with a higher rate",
        ),
        ("Filter: ON LSC 40 dB Fc 100 Hz Gain 20 dB", "LSC: 40 dB per octave is too steep for a gain of 20 dB"),
        ("Filter: ON LP Fc 23999 Hz BW Oct 10", "LP: Fc 23999 Hz with this width cannot be at a rate of 48000 Hz"),
        (
            "Filter: ON IIR 1 2 3 4",
            'IIR: write it as in "IIR Order 1 Coefficients 0.5 0.5 1 0": the numerator, then the denominator',
        ),
        ("Filter: ON IIR Order 65 Coefficients 1 2", "IIR: an order of 65 is not within 1 to 64"),
        ("Filter: ON IIR Order 0 Coefficients 1 2", "IIR: an order of 0 is not within 1 to 64"),
        ("Filter: ON IIR Order 2 Coefficients 1 2", "IIR: order 2 takes 6 coefficients, not 2"),
        ("Filter: ON IIR Order 1 Coefficients 1 2 x 4", 'IIR: "x" is not a number'),
        ("Filter: ON IIR Order 1 Coefficients 1 2 0 4", "IIR: the denominator begins with 0"),
        (
            "Filter: ON IIR Order 1 Coefficients 1 0 1 -1",
            "IIR: the filter is unstable: it has a pole at a radius of 1, not below 1",
        ),
        ("Filter: ON IIR Order 1 Coefficients 1e300 0 1e-300 0", "IIR: the coefficients are too far apart"),
        (
            f"Filter: ON IIR Order 40 Coefficients {'1e-300 ' + '1e300 ' * 40} 1 {'0 ' * 40}",
            "IIR: rounding keeps this filter from being split into sections: give it as several of a lower order",
        ),
        ("Delay: 1e308 ms", "Delay: inf frames at 48000 Hz are more than 1048576"),
        ("Preamp: loud", 'Preamp: "loud" is not a number'),
        ("Preamp: -6 dB or so", 'Preamp: "-6 dB or so" is not understood: write it as in "Preamp: -6.5 dB"'),
        ("Preamp: 90 dB", "Preamp: 90 is not within -120 to 60"),
        ("Delay: 3", 'Delay: "3" is not understood: write it as in "Delay: 3 ms" or "Delay: 12 samples"'),
        ("Delay: -3 ms", "Delay: -3 is negative: delay the other channels"),
        ("Delay: 30000 ms", "Delay: 1440000 frames at 48000 Hz are more than 1048576"),
        ("GraphicEQ:", 'GraphicEQ: no points; write it as in "GraphicEQ: 20 0; 25 1.2"'),
        ("GraphicEQ: 20 0 25 1", 'GraphicEQ: "20 0 25 1" is no pair of a frequency and a gain such as "25 1.2"'),
        ("GraphicEQ: 20 x", 'Gain: "x" is not a number'),
        ("GraphicEQ: 0 3; 20 1", "GraphicEQ: 0 Hz is below 1 Hz"),
        ("GraphicEQ: 20 3; 20.0 1", "GraphicEQ: 20 Hz has two gains, 3 and 1 dB"),
        ("Channel:", 'Channel: no channels; write "Channel: ALL" for all of them'),
        ("Channel: L X", 'Channel: a bus of 2 has no channel "X"; valid: L, R, 1, 2'),
        ("Channel: 3", 'Channel: a bus of 2 has no channel "3"; valid: L, R, 1, 2'),
        ("Channel: L,R", 'Channel: a bus of 2 has no channel "L,R"; did you mean "R"?'),
        ("Copy:", 'Copy: no channels; write it as in "Copy: L=L+0.5*R"'),
        ("Copy: L = R", 'Copy: "L" is not understood: write it as in "L=L+0.5*R", without spaces'),
        ("Copy: L=0.5", "Copy: 0.5 is a constant, not a channel: a constant is no filter; only 0.0 can be"),
        ("Copy: L=L-R", 'Copy: a bus of 2 has no channel "L-R"; did you mean "R"?'),
        ("Copy: L=1001*R", "Copy: 1001 is not within -1000 to 1000"),
        ("Copy: L=x*R", 'Copy: "X" is not a number'),
        ("Copy: L=R L=0.0", "Copy: L is set twice in one line"),
        ("Copy: L=R 1=0.0", "Copy: 1 is set twice in one line"),
        ("Copy: 3=L", 'Copy: a bus of 2 has no channel "3"; valid: L, R, 1, 2'),
        ("Copy: LL=R", 'Copy: "LL" is no channel of the bus, and nothing is copied from it; did you mean "L"?'),
        ("Device: Speakers", 'Device: "Speakers": a rack knows no devices; leave the line out, or write all'),
        ("Stage: pre-mix", 'Stage: "pre-mix": a rack has only the stage post-mix; leave out what is not for it'),
        ("Include: other.txt", "Include: only a file can include files; put the text into one"),
    ],
)
def test_lines_that_are_refused(line: str, message: str) -> None:
    """What is not understood is refused with its line, what is wrong, and the nearest or the way out."""
    assert f"text:2: {message}" == refusal(f"# a comment\n{line}")


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing here\n", "Filter Settings file\nNotes: none\n"])
def test_empty_text(text: str) -> None:
    """A text without any command is not taken for one that changes nothing."""
    assert "text holds no filter" == refusal(text)


def test_too_many_lines() -> None:
    """A thousand lines are the most."""
    assert "text:1001: more than 1000 lines" == refusal("Preamp: 0 dB\n" * 1001)


def file_refusal(path: Path) -> str:
    """The one line with which a file is refused, without the folder."""
    with pytest.raises(ValueError, match=r"^.*\Z") as info:
        parse_file(path)
    return str(info.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"#" * 1_000_001, "file: eq.txt is larger than 1000000 bytes: no equaliser text is"),
        (b"Preamp: -3 dB\0\n", "file: eq.txt is no text"),
        (b"\xff\xfeP", "file: eq.txt is no text"),
        (b"\xef\xbb\xbf\xff", "file: eq.txt is no text"),
        (b"\x81\x8d", "file: eq.txt is no text"),
        (b"", "eq.txt holds no filter"),
        (b"Preamp: 3 dB\nInclude: gone.txt", "eq.txt:2: Include: gone.txt: No such file or directory"),
        (b"Include: eq.txt", "eq.txt:1: Include: more than 8 files deep; does a file include itself?"),
        (b"Include: .", "eq.txt:1: Include: "),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """A file that is no text, too large, empty or that leads nowhere is refused with its name."""
    path = tmp_path / "eq.txt"
    path.write_bytes(content)

    assert file_refusal(path).startswith(message)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    assert "file: eq.txt: No such file or directory" == file_refusal(tmp_path / "eq.txt")


def test_an_included_files_line_is_named(tmp_path: Path) -> None:
    """What is wrong in an included file is told with that file's line, also when only the rate shows it."""
    main, other = tmp_path / "main.txt", tmp_path / "other.txt"
    main.write_text("Include: other.txt\n")
    other.write_text("\nFilter: ON HP Fc 30000 Hz\n")
    with pytest.raises(ValueError, match=r"^.*\Z") as info:
        stages_of(parse_file(main), 48_000, 2)
    assert str(info.value).startswith(f"{other}:2: HP: Fc 30000 Hz is not below half the rate")

    other.write_text("\nFilter: ON HPP\n")
    assert 'other.txt:2: unknown filter type "HPP"; did you mean "HP"?' == file_refusal(main)


# Random texts

SEEDS = [
    "Preamp: -6.5 dB\nFilter 1: ON LSC Fc 105 Hz Gain 6.4 dB Q 0.70\nFilter 2: OFF PK Fc 8800 Hz Gain 5.1 dB Q 1.42\n",
    "Filter: ON LS 6dB Fc 50 Hz Gain 7 dB\nFilter: ON PEQ Fc 1 000 Hz Gain 1 dB BW Oct 0.5\n"
    "Filter: ON Modal Fc 9 Hz Gain 1 dB Q 1 T60 target 9 ms\n",
    "Channel: L 2\nDelay: 3 ms\nCopy: L=L+-0.5*R R=-6dB*L X=0.0\n"
    "Copy: R=R+X\nChannel: ALL\nFilter: ON IIR Order 1 Coefficients 0.5 0.5 1 0.1\n",
    "Filter: ON IIR Order 3 Coefficients 0.5 -0.5 1 0.1 1 0.3 -0.2 0.1\nDelay: 12 samples\n",
    "GraphicEQ: 20 -1.5; 100 2; 1000 0\nDevice: all\nStage: post-mix\n",
    REW,
]
PIECES = [
    "\n",
    "\r",
    " ",
    ":",
    ";",
    "=",
    "+",
    "*",
    "-",
    ".",
    ",",
    "0",
    "9",
    "e",
    "1e308",
    "\x00",
    "\x85",
    "\u2028",
    "\u00a0",
    "\x0b",
    "`",
    "#",
]
PIECES += [
    "ON ",
    "Q ",
    "Fc ",
    "Hz",
    "dB",
    "nan",
    "inf",
    "Filter",
    "Copy: ",
    "²",
    "٣",
    "Include: x",
    "ALL",
    "99999999999999999999",
    "\u017f",
    "İ",
]


def mutated(rng: random.Random) -> str:
    """A valid text with up to six pieces cut out, put in or doubled."""
    text = rng.choice(SEEDS)
    for _ in range(rng.randint(1, 6)):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice([0, 0, 1, 1, 3, 20]))
        text = text[:start] + rng.choice([*PIECES, "", text[start:end] * 2]) + text[end:]
    return text


def outcome(text: str) -> str:
    """Empty if a text is fine, else the message of its refusal; anything but ValueError ends the test."""
    try:
        stages_of(parse(text), 48_000, 2)
    except ValueError as error:
        return str(error)
    return ""


def check_random_texts(seed: int, count: int) -> None:
    """Look at `count` texts."""
    rng = random.Random(seed)
    texts = [mutated(rng) for _ in range(count)]
    messages = [outcome(text) for text in texts]

    assert all(message.isprintable() for message in messages)
    assert all(message.startswith("text") and len(message) < 400 for message in messages if message)
    assert 0.05 * count < messages.count("") < 0.95 * count


def test_random_texts() -> None:
    """A text that somebody has damaged is fine or refused in one line of printable characters: nothing else happens."""
    check_random_texts(1, 3000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_random_texts(seed: int) -> None:
    """The same for 200,000 texts."""
    check_random_texts(seed, 20_000)


def has_taps_or_line(text: str) -> bool:
    """Whether a text gives numbers, or is refused in one line."""
    try:
        return bool(np.isfinite(taps_of(stages_of(parse(text), 8000, 2), 8000, "text")).all())
    except ValueError as error:
        return str(error).isprintable()


@pytest.mark.slow
def test_taps_of_random_texts() -> None:
    """Whatever a damaged text means, its taps are numbers, or it is refused in one line."""
    rng = random.Random(1)

    assert all(has_taps_or_line(mutated(rng)) for _ in range(1000))
