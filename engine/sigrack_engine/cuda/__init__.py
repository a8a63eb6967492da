"""The convolver on an NVIDIA GPU: the extra `gpu`. Only `device` imports CuPy, and only when a device is opened."""
