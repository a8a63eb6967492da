"""Which stages a convolver on a GPU has, how its kernels divide the work, and where everything lies in its memory."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sigrack_engine.cuda.errors import CudaError

__all__ = ["LONGEST", "Limits", "Plan", "Shape", "Stage", "plan_for"]

LONGEST = 16_384
"""Bins, at most, of a transform: more do not fit into the memory that the threads of a block share."""
LEAST = 64
MOST_LEVELS = 4
"""Of a transform in one pass, in registers: 2^4 points for each thread."""
MOST_STAGES = 4
MOST_CHANNELS = 8
MOST_PHASES = 32
MOST_TAPS = 4 << 20
MOST_FRAMES = 1 << 28
"""Of output, in a block: the kernels count them in 32 bits."""
LONGEST_WHOLE, MOST_SEGMENT = 8192, 4096
"""Frames of a block beyond which it is cut into segments, and of these: shorter ones keep more processors busy."""
BYTES_PER_US = 3.5e6
"""Of spectra, read by the products: what a large GPU does; only proportions matter."""
STAGE_US = 2.0
"""What one more stage costs: a launch, and transforms that keep few of the processors busy."""
PARTITION_US = 0.25
"""What one more partition costs a thread that multiplies one after the other."""
FULL_THREADS = 2048
"""Of a processor."""
COMPLEX, FLOAT = 8, 4


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device allows."""

    threads: int = 1024
    """In a block."""
    columns: int = 32
    """Bins that neighbouring threads read together, at least."""
    lanes: int = 8
    """Threads, at most, that share one bin's partitions."""
    processors: int = 132


@dataclass(frozen=True, slots=True)
class Shape:
    """What a session convolves."""

    filter_of: tuple[tuple[int, ...], ...]
    """[output][input]: number of the filter, -1 for zeros. Paths with one number share a filter."""
    taps: int
    """Of each path, at most, at the output's rate."""
    block: int
    """Input frames that come at once."""
    phases: int = 1
    """Output frames for each input frame."""
    streams: int = 1
    spare: int = 1
    """Filters beyond one for each stream: so many streams may change at once."""

    @property
    def inputs(self) -> int:
        """Channels in."""
        return len(self.filter_of[0])

    @property
    def outputs(self) -> int:
        """Channels out."""
        return len(self.filter_of)

    @property
    def filters(self) -> int:
        """Different ones that are not zero; at least 1, so that there is something to lay out."""
        return max(1, 1 + max(max(row) for row in self.filter_of))

    @property
    def voices(self) -> int:
        """Phases of all outputs."""
        return self.outputs * self.phases

    @property
    def slots(self) -> int:
        """Filters that can be kept."""
        return self.streams + self.spare

    def check(self) -> None:
        """Raise CudaError when a number is out of range."""
        for name, value, most in (
            ("inputs", self.inputs, MOST_CHANNELS),
            ("outputs", self.outputs, MOST_CHANNELS),
            ("phases", self.phases, MOST_PHASES),
            ("taps", self.taps, MOST_TAPS),
            ("block", self.block, MOST_FRAMES // max(1, self.phases)),
            ("streams", self.streams, 1 << 20),
        ):
            if not 1 <= value <= most:
                raise CudaError(f"{name}: {value} is not between 1 and {most}")


@dataclass(frozen=True, slots=True)
class Stage:
    """Equal partitions of all filters."""

    bins: int
    growth: int
    """Blocks in one of its segments."""
    partitions: int
    """Of each phase."""
    slots: int
    """Spectra kept of each input."""
    from_tap: int
    """Its first tap, counted at the input's rate."""

    @property
    def log2(self) -> int:
        """Of the bins."""
        return self.bins.bit_length() - 1


@dataclass(frozen=True)
class Plan:
    """A shape, its stages, and how kernels divide the work."""

    shape: Shape
    hop: int
    """Frames of a segment of the first stage."""
    segments: int
    """Of a block."""
    stages: tuple[Stage, ...]
    columns: int
    lanes: int
    tile: int
    """Segments that one thread sums together."""
    limits: Limits
    live: bool
    """Whether input and output are in host memory."""

    @property
    def bins(self) -> int:
        """Of the first stage."""
        return self.stages[0].bins

    @property
    def history(self) -> int:
        """Segments of input that are kept: the last two of the longest stage."""
        return 2 * self.stages[-1].growth

    @property
    def lead_frames(self) -> int:
        """Input frames until a new filter's later stages have all that they add: two of the longest segments."""
        return self.history * self.hop if len(self.stages) > 1 else 0

    @property
    def fetched(self) -> bool:
        """Whether a block's input is brought from the host before it is transformed."""
        return self.live and self.segments > 1

    def threads(self, stage: int) -> int:
        """Of a block that transforms one segment."""
        return min(max(32, self.stages[stage].bins >> MOST_LEVELS), self.limits.threads)

    def shared_bytes(self, stage: int, *, faded: bool = False) -> int:
        """What they share; `faded`: and the output of an incoming filter."""
        bins = self.stages[stage].bins
        return (bins + (bins >> MOST_LEVELS)) * COMPLEX + (bins * FLOAT if faded else 0)

    @cached_property
    def macros(self) -> str:
        """What stands in front of the kernels."""
        shape = self.shape
        lists = {
            "LOG2_OF": [stage.log2 for stage in self.stages],
            "GROWTH_OF": [stage.growth for stage in self.stages],
            "PARTITIONS_OF": [stage.partitions for stage in self.stages],
            "SLOTS_OF": [stage.slots for stage in self.stages],
            "FROM_OF": [stage.from_tap for stage in self.stages],
        }
        values = {name: "{" + ", ".join(map(str, numbers)) + "}" for name, numbers in lists.items()}
        values["FILTER_OF"] = "{" + ", ".join("{" + ", ".join(map(str, row)) + "}" for row in shape.filter_of) + "}"
        values |= {f"THREADS_{number}": str(self.threads(number)) for number in range(len(self.stages))}
        numbers = {
            "STAGES": len(self.stages),
            "INPUTS": shape.inputs,
            "OUTPUTS": shape.outputs,
            "PHASES": shape.phases,
            "FILTERS": shape.filters,
            "MOST_LEVELS": MOST_LEVELS,
            "FETCHED": int(self.fetched),
            "SEGMENTS": self.segments,
            "HOP": self.hop,
            "HISTORY": self.history,
            "COLUMNS": self.columns,
            "LANES": self.lanes,
            "TILE": self.tile,
            "WIDTH": 4 if shape.phases % 4 == 0 else 1,
        }
        values |= {name: str(number) for name, number in numbers.items()}
        return "".join(f"#define {name} {value}\n" for name, value in values.items())

    @property
    def source(self) -> str:
        """The kernels of this plan."""
        return self.macros + (Path(__file__).parent / "kernels.cu").read_text()

    def bytes_of(self) -> dict[str, int]:
        """Return the size of each array on the device, in their order; from `history` on they change with the input."""
        shape, floats = self.shape, self.hop * self.segments
        sizes = {"roots": LONGEST * COMPLEX, "routes": shape.streams * 24, "owners": shape.slots * 8}
        for number, stage in enumerate(self.stages):
            sizes[f"filters{number}"] = shape.slots * shape.filters * shape.phases * stage.partitions * stage.bins * COMPLEX
        sizes["history"] = shape.streams * shape.inputs * self.history * self.hop * FLOAT
        sizes["planes"] = shape.streams * shape.voices * floats * FLOAT if shape.phases > 1 else 0
        sizes["fetched"] = shape.streams * shape.inputs * floats * FLOAT if self.fetched else 0
        for number, stage in enumerate(self.stages):
            segments = self.segments if number == 0 else 1
            sizes[f"signals{number}"] = shape.streams * shape.inputs * stage.slots * stage.bins * COMPLEX
            sizes[f"sums{number}"] = shape.slots * shape.voices * segments * stage.bins * COMPLEX
            sizes[f"made{number}"] = shape.slots * shape.voices * stage.growth * self.hop * FLOAT if number else 0
        return sizes


def _power(number: int) -> int:
    return max(LEAST, 1 << (number - 1).bit_length())


def _cut(block: int, offline: bool) -> tuple[int, int]:
    """Return the frames and the number of a block's segments: equal ones, long if latency does not count."""
    if block <= LONGEST_WHOLE:
        return block, 1
    most = LONGEST if offline else MOST_SEGMENT
    for segments in range(-(-block // most), block // LEAST + 1):
        if block % segments == 0:
            return block // segments, segments
    raise CudaError(
        f"block: {block} frames cannot be cut into equal segments of {LEAST} to {most}; take a multiple of a power of two"
    )


def _stages(shape: Shape, hop: int, segments: int, growths: tuple[int, ...]) -> tuple[Stage, ...]:
    """Return stages: each after the first begins two of its segments in, so that its sums may take one segment."""
    taps = -(-shape.taps // shape.phases)
    starts = [0, *(2 * growth * hop for growth in growths[1:])]
    ends = [*starts[1:], taps]
    stages = []
    for growth, start, end in zip(growths, starts, ends, strict=True):
        partitions = -(-(end - start) // (growth * hop))
        slots = partitions + (segments - 1 if growth == 1 else 0)
        stages.append(Stage(_power(hop) * growth, growth, partitions, slots, start))
    return tuple(stages)


def _products_us(shape: Shape, stages: tuple[Stage, ...], lanes: int) -> float:
    """What a block of the products costs, and further stages with it."""
    bins = stages[0].bins
    read = sum(stage.partitions for stage in stages) * (shape.filters * shape.phases + shape.inputs) * bins * COMPLEX
    ahead = (len(stages) - 1) * (shape.inputs + 2 * shape.voices) * bins * 4 * COMPLEX
    serial = max(stage.partitions for stage in stages) / lanes * PARTITION_US
    return max(shape.streams * (read + ahead) / BYTES_PER_US, serial) + (len(stages) - 1) * STAGE_US


def _division(shape: Shape, bins: int, tiles: int, limits: Limits) -> tuple[int, int]:
    """Return columns and lanes of a thread block that multiplies: few streams have more lanes, to keep all processors busy.

    `tiles`: of a block's segments.
    """
    threads = shape.streams * shape.phases * bins * tiles
    if threads * limits.lanes > limits.processors * FULL_THREADS:
        return min(bins, (4 if tiles == 1 else 8) * limits.columns), 1
    return min(bins, limits.columns), limits.lanes


def _tile(shape: Shape, segments: int) -> int:
    """How many segments a thread sums at once with the registers it has."""
    return min(8 if max(shape.inputs, shape.outputs) <= 2 else 4, _power_of_two(segments))


def plan_for(
    shape: Shape,
    limits: Limits | None = None,
    growths: tuple[int, ...] | None = None,
    *,
    live: bool = False,
    offline: bool = False,
) -> Plan:
    """Plan for `shape`; `growths`: of the stages, from 1, rising powers of two; the cheapest by the model if not given.

    `live`: input and output are in host memory. `offline`: latency does not count, so that segments may be as long as transforms.
    Raises CudaError when a number is out of range.
    """
    shape.check()
    limits = limits or Limits()
    hop, segments = _cut(shape.block, offline)
    bins = _power(hop)
    tile = _tile(shape, segments)
    columns, lanes = _division(shape, bins, -(-segments // tile), limits)
    taps = -(-shape.taps // shape.phases)
    possible = [1 << k for k in range(1, 11) if (bins << k) <= LONGEST and 2 * (hop << k) < taps and segments == 1]
    candidates = [(1, *rest) for count in range(MOST_STAGES) for rest in itertools.combinations(possible, count)]
    if growths is not None and growths not in candidates:
        raise CudaError(f"growths: {growths} is not possible here; one of {candidates}")
    chosen = growths or min(candidates, key=lambda each: _products_us(shape, _stages(shape, hop, segments, each), lanes))
    return Plan(shape, hop, segments, _stages(shape, hop, segments, chosen), columns, lanes, tile, limits, live)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
