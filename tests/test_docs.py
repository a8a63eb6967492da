"""The manual says what is: its programs run as printed, its keys exist, its links lead somewhere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from oracles.truepeak import true_peak_db
from racks import noise
from sigrack.config import load, parse
from sigrack.drivers import built
from sigrack.loading import NativePlugin
from sigrack.rendering import render
from sigrack.tables import Config
from sigrack_plugins import bundled
from sigrack_plugins._equalizer.parsing import COMMANDS, FOREIGN_TYPES, REFUSED, TYPES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(page: str, language: str) -> list[str]:
    """Return the fenced code of one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler called cc")
def test_first_plugins_run_as_printed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The README's Python plugin, C plugin and rack, copied out and built by its command, turn a file over and log its peak."""
    caplog.set_level("INFO", logger="sigrack")
    command = re.search(r"`(cc -shared .*?)`:", (ROOT / "README.md").read_text(), re.DOTALL)
    assert command
    python = next(code for code in snippets("README.md", "python") if "class Peak" in code)
    (tmp_path / "peak.py").write_text(python)
    (tmp_path / "invert.c").write_text(snippets("README.md", "c")[0])
    venv = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command[1], shell=True, cwd=tmp_path, env=os.environ | venv, check=True)
    (tmp_path / "first.toml").write_text(snippets("README.md", "toml")[0])
    sound = noise(20_000)
    soundfile.write(tmp_path / "in.wav", sound, 48_000, subtype="FLOAT")

    render(tmp_path / "first.toml", tmp_path / "in.wav", tmp_path / "out.wav")
    heard, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")

    assert np.array_equal(-sound, heard)
    assert f"{np.abs(sound[:1024]).max():.3f} at 0.0 s" in caplog.text


def test_the_manuals_echo_runs_as_printed(tmp_path: Path) -> None:
    """The plugin guide's FIR plugin, copied out, adds the echo it describes."""
    (tmp_path / "echo.py").write_text(snippets("docs/plugins.md", "python")[0])
    (tmp_path / "rack.toml").write_text(
        '[source]\ndriver = "file"\npath = "-"\n[[slot]]\nname = "echo"\nplugin = "./echo.py"\nconfig = { delay_ms = 10 }\n'
    )
    sound = noise(5000)
    soundfile.write(tmp_path / "in.wav", sound, 48_000, subtype="FLOAT")

    render(tmp_path / "rack.toml", tmp_path / "in.wav", tmp_path / "out.wav")
    heard, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    wanted = sound.copy()
    wanted[480:] += np.float32(0.4) * sound[:-480]

    assert np.abs(wanted - heard).max() < 1e-6


def test_the_manuals_recursion_runs_as_printed(tmp_path: Path) -> None:
    """The plugin guide's recursive plugin, copied out, takes out a constant and leaves a tone."""
    (tmp_path / "block.py").write_text(snippets("docs/plugins.md", "python")[1])
    (tmp_path / "rack.toml").write_text('[source]\ndriver = "file"\npath = "-"\n[[slot]]\nname = "dc"\nplugin = "./block.py"\n')
    tone = 0.5 * np.sin(2 * np.pi * 1000 / 48_000 * np.arange(96_000))
    soundfile.write(tmp_path / "in.wav", tone + 0.25, 48_000, subtype="FLOAT")
    render(tmp_path / "rack.toml", tmp_path / "in.wav", tmp_path / "out.wav")
    heard, _ = soundfile.read(tmp_path / "out.wav")

    assert np.abs(heard[72_000:] - tone[72_000:]).max() < 2e-3


def test_the_manuals_processor_runs_as_printed(tmp_path: Path) -> None:
    """The page on lanes: its Python processor, copied out, bends a file in a process of its own."""
    (tmp_path / "saturate.py").write_text(snippets("docs/lanes.md", "python")[0])
    (tmp_path / "rack.toml").write_text(
        '[source]\ndriver = "file"\npath = "-"\n[[slot]]\nname = "bend"\nplugin = "./saturate.py"\nparams = { drive_db = 20 }\n'
    )
    sound = noise(5000)
    soundfile.write(tmp_path / "in.wav", sound, 48_000, subtype="FLOAT")

    render(tmp_path / "rack.toml", tmp_path / "in.wav", tmp_path / "out.wav")
    heard, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")

    assert np.abs(np.tanh(10 * sound) / 10 - heard).max() < 1e-6


def test_the_lanes_example_bends_a_file(tmp_path: Path) -> None:
    """examples/lanes.toml renders: bent, then 3 dB down."""
    sound = noise(5000)
    soundfile.write(tmp_path / "in.wav", sound, 48_000, subtype="FLOAT")
    render(ROOT / "examples" / "lanes.toml", tmp_path / "in.wav", tmp_path / "out.wav")
    heard, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    drive = 10 ** (12 / 20)

    assert np.abs(10 ** (-3 / 20) * np.tanh(drive * sound) / drive - heard).max() < 1e-6


def test_the_equalisers_rack_runs_as_printed(tmp_path: Path) -> None:
    """The equaliser page's text and rack, copied out, run; no frequency becomes louder, as their preamps promise."""
    (tmp_path / "headphones.txt").write_text(snippets("docs/equalizer.md", "text")[0])
    (tmp_path / "rack.toml").write_text(snippets("docs/equalizer.md", "toml")[0])
    sound = np.zeros((48_000, 2), np.float32)
    sound[0] = 1.0
    soundfile.write(tmp_path / "in.wav", sound, 48_000, subtype="FLOAT")

    render(tmp_path / "rack.toml", tmp_path / "in.wav", tmp_path / "out.wav")
    heard, _ = soundfile.read(tmp_path / "out.wav")
    highest = np.abs(np.fft.rfft(heard, axis=0)).max()

    assert 0.9 < highest <= 1.0


def test_the_channels_rack_runs_as_printed(tmp_path: Path) -> None:
    """The rack of the chapter on channels, copied out: a microphone at half its level in both channels, without its rumble."""
    (tmp_path / "rack.toml").write_text(snippets("docs/racks.md", "toml")[1])
    at = np.arange(48_000) / 48_000
    voice = 0.2 * np.sin(2 * np.pi * 1000 * at) + 0.2 * np.sin(2 * np.pi * 10 * at)
    sound = np.concatenate([noise(48_000), voice[:, None]], axis=1).astype(np.float32)
    soundfile.write(tmp_path / "band.wav", sound, 48_000, subtype="FLOAT")

    render(tmp_path / "rack.toml", tmp_path / "band.wav", tmp_path / "out.wav")
    heard, _ = soundfile.read(tmp_path / "out.wav")
    added = np.abs(np.fft.rfft((heard - sound[:, :2])[24_000:], axis=0)) / 12_000

    assert np.allclose(added[500], 0.1, rtol=0.01)
    assert added[5].max() < 0.003


def test_the_equalisers_page_names_every_line() -> None:
    """Each command and each filter type, computed or refused, stands in the page's tables."""
    text = (ROOT / "docs" / "equalizer.md").read_text()

    for name in (*COMMANDS, *REFUSED, *TYPES, *FOREIGN_TYPES):
        assert re.search(rf"`[^`]*\b{name}\b[^`]*`", text), name


def test_the_manuals_design_runs_as_printed(tmp_path: Path) -> None:
    """The filter guide's program designs, saves and loads what it says."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    code = snippets("docs/design.md", "python")[0]

    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )

    assert re.fullmatch(r"-12\d\.\d dB from 24000 Hz, half at 23\d\d\d Hz\n", found.stdout)


@pytest.mark.slow
def test_the_manuals_design_commands_run_as_printed(tmp_path: Path) -> None:
    """Each line of the filter guide's first block succeeds, in order."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    for line in snippets("docs/design.md", "sh")[0].splitlines():
        subprocess.run(line, shell=True, cwd=tmp_path, env=environment, check=True)


def test_the_upsamplers_rack_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rack of the upsampling page, at a quarter of its ratio: one group, and a file at four times the rate."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = snippets("docs/upsampling.md", "toml")[0]
    assert "ratio = 16" in text
    (tmp_path / "rack.toml").write_text(text.replace("ratio = 16", "ratio = 4"))
    soundfile.write(tmp_path / "in.wav", noise(20_000), 44_100, subtype="FLOAT")

    render(tmp_path / "rack.toml", tmp_path / "in.wav", tmp_path / "out.wav")
    heard, rate_hz = soundfile.read(tmp_path / "out.wav")

    assert (176_400, 80_000) == (rate_hz, len(heard))
    with built(load(tmp_path / "rack.toml")) as rack:
        assert ["tone + upsample + crossfeed"] == [group.name for group in rack.groups]


def test_the_limiters_rack_runs_as_printed(tmp_path: Path) -> None:
    """The limiter page's rack, copied out, makes noise louder and keeps its true peak below the ceiling that it names."""
    (tmp_path / "rack.toml").write_text(snippets("docs/limiter.md", "toml")[0])
    soundfile.write(tmp_path / "in.wav", noise(20_000), 48_000, subtype="FLOAT")

    render(tmp_path / "rack.toml", tmp_path / "in.wav", tmp_path / "out.wav")
    heard, _ = soundfile.read(tmp_path / "out.wav")

    assert -2.0 < true_peak_db(heard.T) <= -1.0


def test_the_limiters_page_is_complete() -> None:
    """Each parameter stands in its table with its default, each factor in the other."""
    text = (ROOT / "docs" / "limiter.md").read_text()
    plugin = NativePlugin(bundled()["limiter"])

    for param in plugin.params:
        assert f"| `{param.id}` | {param.initial:g} {param.unit} |" in text
    for factor in plugin.factors:
        assert f"| `{factor}` |" in text


def test_the_rack_reference_is_valid_and_complete() -> None:
    """The reference rack parses, and shows every key that there is."""
    text = snippets("docs/racks.md", "toml")[0]
    parse(Path("reference.toml"), text)

    for table in msgspec.structs.fields(Config):
        assert re.search(rf"^\[+{table.name}\]", text, re.MULTILINE), table.name
    for name in ("Rack", "Bus", "Source", "Sink", "Slot", "Signal", "Feed", "Publish", "Control"):
        for field in msgspec.structs.fields(vars(sys.modules["sigrack.tables"])[f"{name}Table"]):
            assert re.search(rf"^{field.encode_name} = ", text, re.MULTILINE), f"{name}Table.{field.name}"


def test_the_rack_on_a_gpu_is_valid() -> None:
    """As docs/gpu.md shows it."""
    parse(Path("gpu.toml"), snippets("docs/gpu.md", "toml")[0])


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.name)
def test_examples_parse(example: Path) -> None:
    """Every example is a valid rack with plugins that exist."""
    for slot in load(example).config.slot:
        assert slot.plugin in bundled() or (example.parent / slot.plugin).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name files that exist."""
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_dependency_has_its_reason() -> None:
    """docs/dependencies.md names each package of pyproject.toml."""
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    names = re.findall(r'^    "([A-Za-z0-9-]+)', project.split("dependencies = [", 1)[1].split("]", 1)[0], re.MULTILINE)

    assert len(names) >= 7
    for name in names:
        assert f"| {name} |" in reasons, name


def test_the_python_example_is_what_the_package_offers() -> None:
    """`from sigrack import ...` works for every name, and imports no numpy until one is used."""
    probe = "import sigrack, sys; assert 'numpy' not in sys.modules; [getattr(sigrack, name) for name in sigrack.__all__]"

    assert 0 == subprocess.run([sys.executable, "-c", probe], check=False).returncode


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_the_manuals_unit_is_one(tmp_path: Path) -> None:
    """systemd finds nothing wrong with the unit of the service page, once its program is there."""
    unit = snippets("docs/service.md", "ini")[0].replace("/opt/sigrack/.venv/bin/sigrack", sys.executable)
    (tmp_path / "sigrack.service").write_text(unit.replace("User=sigrack", "User=root"))
    done = subprocess.run(["systemd-analyze", "verify", tmp_path / "sigrack.service"], capture_output=True, text=True)

    assert "" == "".join(line for line in done.stderr.splitlines() if "sigrack.service" in line)
