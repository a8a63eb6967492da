"""The recorder in a real rack."""

import time
from datetime import datetime
from pathlib import Path

import numpy as np
import soundfile

from racks import noise, write
from sigrack.config import load
from sigrack.session import Session


def test_a_live_rack_is_recorded_from_its_first_frame(tmp_path: Path) -> None:
    """In a real rack the recording is the source, and its comment tells the first frame and a time at which the rack ran."""
    sound, begun = noise(12_000), time.time()
    slot = '[[slot]]\nname = "tape"\nplugin = "recorder"\nconfig = { path = "take.wav" }\n'
    head = '[control]\nenabled = false\n[source]\ndriver = "clock"\npath = "in.wav"\n'

    Session(load(write(tmp_path, head + slot, sound))).run()

    with soundfile.SoundFile(tmp_path / "take.wav") as file:
        taken = file.read(dtype="float32")
        words = dict(word.split("=") for word in file.comment.split())
    utc = datetime.fromisoformat(words["utc"]).timestamp()
    assert np.array_equal(sound, taken)
    assert ("0", "0") == (words["first_frame"], words["rack_time_ns"])
    assert begun - 0.1 <= utc <= time.time()
