"""Every kernel at small sizes, for compute-sanitizer: each stage, phases, segments, parts, changes, banks.

for tool in memcheck racecheck initcheck synccheck; do
    compute-sanitizer --tool $tool --error-exitcode 1 python tests/engine/cuda/sanitize.py
done
"""

import numpy as np

from sigrack_engine.cuda.bank import StreamBank
from sigrack_engine.cuda.convolver import CudaConvolver
from sigrack_engine.cuda.offline import Offline

BLOCKS = 24


def main() -> None:
    """Run them."""
    generator = np.random.default_rng(0)

    def noise(*shape: int) -> "np.typing.NDArray[np.float32]":
        return generator.uniform(-1.0, 1.0, shape).astype(np.float32)

    for count, block, phases, growths in [
        (3000, 64, 1, (1, 2, 4, 8)),
        (3000, 50, 1, (1, 4)),
        (9000, 1408, 3, (1,)),
        (70_000, 256, 1, (1, 64)),
        (9000, 16_388, 1, (1,)),
        (64_000, 25_536, 16, (1,)),
    ]:
        with CudaConvolver(noise(2, 2, count), phases=phases, block=block, growths=growths, fade_frames=100) as convolver:
            convolver.patience_s = 600.0
            for number in range(BLOCKS):
                if number == 2:
                    convolver.change(noise(2, 2, count))
                convolver.process(noise(2, block))
            convolver.reset()
            convolver.process(noise(2, block))
    with StreamBank(9, taps=3000, block=64, growths=(1, 2, 8), spare=2) as bank:
        for stream in range(9):
            bank.load(stream, noise(2, 2, 3000))
        for number, _ in enumerate(bank.run(noise(9, 2, 64) for _ in range(BLOCKS))):
            if number == 2:
                bank.load(3, noise(2, 2, 3000))
    for phases in (1, 4):
        with Offline(noise(2, 2, 60_000), phases=phases, chunk=65_536) as offline:
            offline.convolve(noise(2, 150_000))


if __name__ == "__main__":
    main()
