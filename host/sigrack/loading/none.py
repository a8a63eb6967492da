"""What stands where a plugin is not loaded."""

from typing import Any

__all__ = ["NoPlugin"]


class NoPlugin:
    """A plugin that does nothing and has nothing; `id` is the text that names the real one."""

    kind = "none"
    version = ""
    description = ""

    def __init__(self, text: str) -> None:
        self.id = self.name = text
        self.params: list[Any] = []
        self.factors: dict[str, Any] = {}
