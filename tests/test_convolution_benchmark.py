"""What benchmarks/convolution.py judges by: the right output, what counts as a valid peer, which plans it compares."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")


@pytest.mark.parametrize(("paths", "phases"), [(2, 1), (4, 1), (2, 4)])
def test_the_reference_is_a_convolution(paths: int, phases: int) -> None:
    """What a task calls right is the sum of products, of the input with zeros between its frames."""
    from convolution_cases import Case, task_of

    task = task_of(Case("small", 48_000, 100, 64, paths, phases))
    stuffed = task.without_phases().samples.astype(np.float64)
    frame = 5000
    past = stuffed[:, frame - 99 : frame + 1][:, ::-1]
    wanted = np.einsum("oit,it->o", task.taps.astype(np.float64), past)

    assert 65_536 * 2 * phases == task.wanted.shape[1]
    assert wanted == pytest.approx(task.wanted[:, frame], rel=1e-9)
    assert paths == sum(path.any() for row in task.taps for path in row)


@pytest.mark.parametrize(
    ("name", "gain", "wrong", "valid"),
    [
        ("zita", 1.0, 0.0, True),
        ("zita", 1.0, 1e-3, False),
        ("zita", 1.001, 0.0, False),
        ("pedalboard", 11.8, 0.0, True),
        ("pedalboard", 11.8, 1e-3, False),
        ("pedalboard", 0.0, 0.0, False),
    ],
)
def test_a_peer_that_does_something_else_is_not_timed(name: str, gain: float, wrong: float, valid: bool) -> None:
    """An error above -80 dB is a refusal; a factor counts as an error but for peers that are known to scale."""
    from convolution import _checked
    from convolution_cases import Case, Samples, task_of
    from convolution_peers import NotPossibleError
    from convolution_streams import Convolver

    task = task_of(Case("small", 48_000, 100, 64))

    class Fake(Convolver):
        closed = False

        def convolve(self, samples: Samples) -> Samples:
            found = (gain * task.wanted).astype(np.float32)
            found[1, 700] += wrong * np.abs(gain * task.wanted).max()
            return found

        def close(self) -> None:
            self.closed = True

    errors: dict[str, float] = {}
    fake = Fake()
    if valid:
        assert fake is _checked(name, fake, task, errors)
    else:
        with pytest.raises(NotPossibleError, match="not valid"):
            _checked(name, fake, task, errors)

    assert fake.closed is not valid
    assert (errors[name] <= -80) is valid


def test_plans_are_compared_with_their_neighbours() -> None:
    """One stage larger, smaller, less or more, and steady growth; never the chosen list itself, or one that cannot be."""
    from convolution_plans import neighbours

    found = neighbours([256, 1024], 64)

    one_stage_off = [[256, 512], [256, 2048], [512, 1024], [256], [1024]]
    one_more = [[256, 1024, size] for size in (2048, 4096, 8192)]
    steady = [[256, 1024, 4096, 16_384], [256, 2048, 16_384], [256, 4096, 65_536]]
    assert sorted([*one_stage_off, *one_more, *steady]) == sorted(found)


def test_a_convolver_is_right_and_gets_a_time() -> None:
    """Ours, as the benchmark runs it, gives the right output; a sample and the worst block are times."""
    from convolution_cases import Case, error_db, task_of
    from convolution_streams import Ours

    task = task_of(Case("small", 48_000, 3000, 128, 4))
    ours = Ours(task)

    assert error_db(ours.convolve(task.samples), task.wanted) <= -120
    ours.last_for(0.001)
    assert ours.ns_per_frame() > 0
    assert ours.worst_block_us(3) > 0
    ours.close()
