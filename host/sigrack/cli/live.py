"""A running rack as text: STATUS and STATS to lines of a given width. Nothing here talks to a host or to a terminal."""

from collections.abc import Iterable, Sequence
from typing import Any

from sigrack.wording import bus, rates

__all__ = ["render", "summary"]

Answer = dict[str, Any]
Span = tuple[str, str]
"""Text and style."""
Line = list[Span]

STYLES = {"bold": "\x1b[1m", "dim": "\x1b[2m", "good": "\x1b[32m", "warn": "\x1b[33m", "bad": "\x1b[31m"}
RESET = "\x1b[0m"

BAR_FROM_DB, WARN_DB, BAD_DB = -60.0, -6.0, -1.0
"""What a bar begins with, and where it changes colour."""
SILENCE_DB = -119.9
"""Meters give a number below it for silence or for too little signal."""
HEAD = ("slot", "plugin", "state", "load %", "mean us", "longest us", "faults", "hooks", "errors", "lost")


def render(status: Answer, stats: Answer, before: Answer | None, width: int, *, color: bool = False) -> list[str]:
    """Return the table. `before`: the host's STATS of a moment ago, for the load since then; else it is since the start."""
    if before and before["blocks"] > stats["blocks"]:
        before = None
    lines: list[Line] = [*_header(status, stats, before), [], *_slots(status, stats, before)]
    for part in (
        _channels(stats),
        _levels(status, stats, width),
        _loudness(stats),
        _limiters(stats),
        _queues(stats),
        _failures(stats),
        _hook_errors(stats),
        _feed_failures(stats),
    ):
        if part:
            lines += [[], *part]
    return [_paint(line, width, color) for line in lines]


def summary(status: Answer, stats: Answer, before: Answer | None) -> str:
    """Return the same in one line."""
    words = [status["rack"], status["state"], _clock(stats["rack_time_s"]), f"load {100 * _load(status, stats, before):.2f} %"]
    if "late" in stats["driver"]:
        words.append(f"late {stats['driver']['late']}")
    if stats["clipped_samples"]:
        words.append(f"clipped {stats['clipped_samples']}")
    for source, values in _factors(stats, "peak_db"):
        words.append(f"{source} {' '.join(map(_db, values))} dBFS")
    for source, values in _factors(stats, "loudness_lufs"):
        words.append(f"{source} {_lufs(values)}")
    if lost := _lost(stats):
        words.append(f"lost {lost}")
    for name, count in (("dropped", _dropped(stats)), ("refused", _refused(stats))):
        if count:
            words.append(f"{name} {count}")
    return "  ".join(words)


def _paint(line: Line, width: int, color: bool) -> str:
    """Cut a line to the width, then colour it."""
    text = ""
    for span, style in line:
        shown = "".join(c if c.isprintable() else "?" for c in span)[:width]
        width -= len(shown)
        text += f"{STYLES[style]}{shown}{RESET}" if color and style and shown else shown
    return text


def _header(status: Answer, stats: Answer, before: Answer | None) -> list[Line]:
    rate, out_rate = status["rate_hz"], status["out_rate_hz"]
    frames, latency = status["block_frames"], status["latency_frames"]
    driver = stats["driver"]
    what = (
        f"{rates(rate, out_rate)}, {bus(**status['bus'])}, blocks of {frames} ({1000 * frames / rate:.2f} ms), "
        f"latency {1000 * latency / out_rate:.2f} ms"
    )
    first: Line = [(f"{status['rack']}  {status['state']} {_clock(status['uptime_s'])}", "bold"), (f"  {what}", "")]
    second: Line = [(f"{status['driver']}  load {100 * _load(status, stats, before):.2f} %", ""), *_driver(driver)]
    if stats["clipped_samples"]:
        second.append((f"  clipped {stats['clipped_samples']} samples", "bad"))
    second.append((f"  memory {stats['memory_mb']:.0f} MB  pid {status['pid']}", ""))
    held = [[(f"{name} is held back: {facts['why']}", "bad")] for name, facts in status["held"].items()]
    if status["safe_mode"]:
        held = [[(f"safe mode: no plugin is loaded ({status['safe_mode']})", "bad")]]
    return [first, second, *held, [(f"plays {status['source']}" if status["source"] else "no audio comes in", "dim")]]


def _driver(driver: Answer) -> Line:
    if "late" not in driver:
        return [(f"  {driver.get('frames_read', 0)} of {driver.get('frames_total', 0)} frames", "")]
    line: Line = [
        (f"  late {driver['late']}", "bad" if driver["late"] else ""),
        (f" (worst {driver['latest_us'] / 1000:.1f} ms)", ""),
    ]
    for key, name in (("source_underrun_frames", "underrun"), ("sink_overrun_frames", "overrun")):
        if driver[key]:
            line.append((f"  {name} {driver[key]}", "bad"))
    if not driver["real_time_priority"]:
        line.append(("  no real-time priority", "warn"))
    return line


def _slots(status: Answer, stats: Answer, before: Answer | None) -> list[Line]:
    rows = [_row(slot, _slot_before(slot, before), _period_ns(status)) for slot in stats["slots"]]
    cells = [HEAD, *([text for text, _ in row] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    lines: list[Line] = [[(_aligned(HEAD, widths), "dim")]]
    for row in rows:
        pairs = zip(_columns([text for text, _ in row], widths), (style for _, style in row), strict=True)
        lines.append([(text, style) for text, style in pairs])
    return lines


def _columns(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Names to the left, numbers to the right."""
    pairs = enumerate(zip(cells, widths, strict=True))
    return [f"{cell:<{width}} " if column < 3 else f"{cell:>{width}} " for column, (cell, width) in pairs]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(_columns(cells, widths))


def _row(slot: Answer, before: Answer | None, period_ns: float) -> list[Span]:
    row: list[Span] = [(slot["name"], "bold"), (slot["plugin"], ""), _state(slot)]
    if meters := slot["meters"]:
        faults = meters["faults"] + meters["nonfinite"]
        mean_ns = _mean_ns(slot, before)
        row += [
            (f"{100 * mean_ns / period_ns:.2f}", ""),
            (f"{mean_ns / 1000:.1f}", ""),
            (f"{meters['longest_ns'] / 1000:.1f}", ""),
        ]
        row.append((str(faults), "bad" if faults else ""))
    else:
        row += [("-", "dim")] * 4
    if hooks := slot["hooks"]:
        row += [(str(hooks["calls"]), ""), (str(hooks["errors"]), "bad" if hooks["errors"] else "")]
    else:
        row += [("-", "dim")] * 2
    row.append((str(slot["lost_frames"]), "bad" if slot["lost_frames"] else ""))
    return row


def _state(slot: Answer) -> Span:
    if slot["held"]:
        return "held", "bad"
    if slot["hooks"] and slot["hooks"]["resting"]:
        return "resting", "bad"
    if slot["bypass"]:
        return "bypassed", "warn"
    return ("active", "good") if slot["meters"] else ("listens", "")


def _period_ns(status: Answer) -> float:
    return float(status["block_frames"] * 1e9 / status["rate_hz"])


def _slot_before(slot: Answer, before: Answer | None) -> Answer | None:
    same = (
        (old for old in before["slots"] if (old["name"], old["plugin"]) == (slot["name"], slot["plugin"])) if before else iter(())
    )
    return next(same, None)


def _mean_ns(slot: Answer, before: Answer | None) -> float:
    """Time per block since `before`, or since the slot was made."""
    meters = slot["meters"]
    old = before["meters"] if before else None
    if not old or old["blocks"] >= meters["blocks"]:
        return float(meters["mean_ns"])
    spent = meters["mean_ns"] * meters["blocks"] - old["mean_ns"] * old["blocks"]
    return float(max(spent, 0.0) / (meters["blocks"] - old["blocks"]))


def _load(status: Answer, stats: Answer, before: Answer | None) -> float:
    """Part of a block's time that its processors take."""
    slots = [slot for slot in stats["slots"] if slot["meters"]]
    return sum(_mean_ns(slot, _slot_before(slot, before)) for slot in slots) / _period_ns(status)


def _factors(stats: Answer, symbol: str) -> Iterable[tuple[str, list[float]]]:
    """Yield who posts `symbol`, and the last values."""
    for name, factor in stats["factors"].items():
        source, _, posted = name.rpartition(".")
        if posted == symbol:
            yield source, factor["values"]


def _channels(stats: Answer) -> list[Line]:
    """Return what was done to channels; nothing if all are as they are."""
    line: Line = []
    for channel in stats["channels"]:
        words = [word for word in ("mute", "solo") if channel[word]]
        words += [f"{channel['gain_db']:+.1f} dB"] if channel["gain_db"] else []
        if words or not channel["heard"]:
            line.append((f"{channel['name']} {', '.join(words) or 'not solo'}  ", "" if channel["heard"] else "warn"))
    return [[("channels  ", "dim"), *line]] if line else []


def _levels(status: Answer, stats: Answer, width: int) -> list[Line]:
    lines: list[Line] = []
    rms, heard = dict(_factors(stats, "rms_db")), {slot["name"]: slot["in"] for slot in status["slots"]}
    for source, peaks in _factors(stats, "peak_db"):
        names = heard.get(source, [])
        if len(names) != len(peaks):  # another slot's, that had the name before
            names = [*map(str, range(1, len(peaks) + 1))]
        broad = max(2, *map(len, names))
        for channel, peak in enumerate(peaks):
            label = f"{source if channel == 0 else '':<{len(source)}}  {names[channel]:>{broad}} "
            numbers = f" {_db(peak):>6} dBFS" + (f"  rms {_db(rms[source][channel]):>6}" if source in rms else "")
            bar = _bar(peak, max(10, min(60, width - len(label) - len(numbers))))
            lines.append([(label, ""), *bar, (numbers, "")])
    return lines


def _bar(db: float, width: int) -> Line:
    """Return a bar that is green up to WARN_DB, yellow up to BAD_DB, red beyond."""

    def cells(level: float) -> int:
        return round(width * min(max(1 - level / BAR_FROM_DB, 0.0), 1.0))

    filled, bar, start = cells(db), [], 0
    for limit, style in ((WARN_DB, "good"), (BAD_DB, "warn"), (0.0, "bad")):
        end = min(filled, cells(limit))
        bar.append(("█" * (end - start), style))
        start = max(start, end)
    return [*bar, ("·" * (width - filled), "dim")]


def _loudness(stats: Answer) -> list[Line]:
    return [[(f"{source}  {_lufs(values)}", "")] for source, values in _factors(stats, "loudness_lufs")]


def _limiters(stats: Answer) -> list[Line]:
    """Return what the bundled limiter posts, wherever one stands."""
    overloads = {source: values for source, values in _factors(stats, "overloads") if len(values) == 4}
    lines: list[Line] = []
    for source, (now, deepest, *_) in _factors(stats, "gain_reduction_db"):
        line: Line = [(f"{source}  reduces by {now:.1f} dB", "warn" if now else ""), (f"  deepest {deepest:.1f} dB", "")]
        if source in overloads:
            limited, over, clipped, bad = (int(count) for count in overloads[source])
            line.append((f"  frames limited {limited}, over 0 dBTP {over}  samples clipped {clipped}", ""))
            line.append((f"  bad {bad}", "bad" if bad else ""))
        lines.append(line)
    return lines


def _lufs(values: Sequence[float]) -> str:
    shown = [_db(value) if value > SILENCE_DB else "-" for value in values]
    return "  ".join(f"{name} {value}" for name, value in zip("MSI", shown, strict=False)) + " LUFS"


def _db(value: float) -> str:
    return f"{value:.1f}" if value > SILENCE_DB else "-inf"


def _queues(stats: Answer) -> list[Line]:
    inbox, results = stats["inbox"], stats["results"].values()
    dropped, refused, lost = _dropped(stats), _refused(stats), _lost(stats)
    return [
        [
            (f"records {stats['loop']['records']}  waiting {inbox['queued'] + sum(counts['queued'] for counts in results)}", ""),
            (f"  dropped {dropped}", "bad" if dropped else ""),
            (f"  refused {refused}", "bad" if refused else ""),
            (f"  lost frames {lost}", "bad" if lost else ""),
        ]
    ]


def _dropped(stats: Answer) -> int:
    """Records that found no room: in a ring, the inbox or an engine's queue; and calls of coroutine hooks that found none."""
    rings = sum(counts["dropped"] for counts in stats["results"].values())
    queues = sum(signal["data"]["dropped"] for signal in stats["signals"].values() if signal["data"])
    hooks = sum(total["dropped"] for total in stats["totals"].values())
    return int(stats["inbox"]["dropped"] + rings + queues + hooks)


def _refused(stats: Answer) -> int:
    """Records, and messages of feeds, that were not what they should be."""
    rings = sum(counts["refused"] for counts in stats["results"].values())
    return int(stats["inbox"]["refused"] + rings + sum(feed.get("refused", 0) for feed in _feeds(stats).values()))


def _feeds(stats: Answer) -> Answer:
    feeds: Answer = stats["driver"].get("feeds", {})
    return feeds


def _feed_failures(stats: Answer) -> list[Line]:
    return [[(f"{name}: {feed['failure']}", "bad")] for name, feed in _feeds(stats).items() if feed.get("failure")]


def _lost(stats: Answer) -> int:
    return sum(int(total["lost_frames"]) for total in stats["totals"].values())


def _failures(stats: Answer) -> list[Line]:
    """Return whose blocks were replaced: the slot, or the members of the group that it is compiled into."""
    lines: dict[str, Line] = {}
    for slot in stats["slots"]:
        name = slot["group"] or slot["name"]
        meters = slot["meters"] or {"nonfinite": 0, "faults": 0}
        for count, what in ((meters["nonfinite"], "were NaN or infinite"), (meters["faults"], "were refused")):
            if count:
                lines[f"{name} {what}"] = [(f"{name}: {count} blocks {what} and were replaced", "bad")]
    return [*lines.values()]


def _hook_errors(stats: Answer) -> list[Line]:
    slots = [slot for slot in stats["slots"] if slot["hooks"] and slot["hooks"]["last_error"]]
    return [[(f"{slot['name']}: {slot['hooks']['last_error'].strip().splitlines()[-1]}", "bad")] for slot in slots]


def _clock(seconds: float) -> str:
    minutes, whole = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{whole:02}"
