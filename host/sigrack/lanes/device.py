"""The GPU that a child opens: nobody else loads CUDA."""

import importlib
import os

from sigrack.errors import ConfigError
from sigrack_engine.cuda.device import Device
from sigrack_engine.cuda.errors import CudaError

__all__ = ["open_device"]

DEVICE = "SIGRACK_CUDA_DEVICE"
"""Environment variable with `module:function`: what opens the device, if not `OPENED`."""
OPENED = "sigrack_engine.cuda.device:opened"


def open_device() -> Device:
    """Return the GPU. Raises ConfigError, which tells why there is none. [control]"""
    module, function = os.environ.get(DEVICE, OPENED).split(":")
    try:
        device: Device = getattr(importlib.import_module(module), function)()
    except CudaError as error:
        raise ConfigError(str(error)) from None
    return device
