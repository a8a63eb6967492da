"""What runs in a child that renders files on a GPU: it reads them, sends them through a bank of streams, and writes them."""

from pathlib import Path

import numpy as np

from sigrack.errors import EngineError
from sigrack.lanes.device import open_device
from sigrack.lanes.messages import Message
from sigrack.lanes.serving import Serving
from sigrack_engine.cuda.device import Device
from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.files import FileBatch, Job, Listener, Through

__all__ = ["main"]


class _FilesChild(Serving):
    """Says how far it is while it carries out `render`: notes `progress`, `done`, `failed`."""

    def __init__(self, descriptors: list[int]) -> None:
        end, stack = descriptors
        super().__init__(end, stack)
        self._device: Device | None = None

    def _open(self, _: Message) -> str:
        self._device = open_device()
        return self._device.name

    def _render(self, order: Message) -> None:
        through = Through(
            np.frombuffer(order["taps"], np.float32).reshape(order["paths"]),
            order["phases"],
            order["latency_frames"],
            order["rate_hz"],
            order["samples"],
            order["overwrite"],
        )
        jobs = [Job(Path(source), Path(target), frames) for source, target, frames in order["files"]]
        send = self._channel.send
        listener = Listener(
            done=lambda file, frames, clipped: send({"note": "done", "file": file, "frames": frames, "clipped": clipped}),
            failed=lambda file, why, begun: send({"note": "failed", "file": file, "why": str(why), "begun": begun}),
            progress=lambda frames: send({"note": "progress", "frames": frames}),
        )
        try:
            batch = FileBatch(through, jobs, listener, self._device)
            try:
                batch.run()
            finally:
                batch.close()
        except CudaError as error:
            raise EngineError(str(error)) from None

    def _end(self, _: Message) -> None:
        """Nothing is open."""


def main(descriptors: list[int], _: Message) -> None:
    """Be a child: `descriptors` are its end of the channel, and where a stack is written. [control]"""
    _FilesChild(descriptors).serve()
