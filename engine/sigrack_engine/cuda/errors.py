"""What can be wrong with a GPU."""

__all__ = ["CudaError"]


class CudaError(RuntimeError):
    """There is no GPU, it has failed or is full, or what is asked of it is out of range."""
