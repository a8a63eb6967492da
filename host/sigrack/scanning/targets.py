"""What is to be scanned: files by name, files in folders, bundled plugins, dotted modules."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sigrack.errors import ConfigError, nearest
from sigrack.loading.modules import module_file
from sigrack_plugins import bundled
from sigrack_plugins.abi import ENTRY

__all__ = ["Target", "find_targets"]

ENDINGS = (".so", ".py")
EXPORTS = (ENTRY.encode(), b"signal_create")


@dataclass(frozen=True, slots=True)
class Target:
    """One library or module."""

    file: Path
    module: str = ""
    """Its dotted name, if that was given."""
    named: bool = True
    """Not just come across in a folder."""

    def may_be_plugin(self) -> bool:
        """Whether it is worth loading: libraries and scripts that are no plugins at all are better left alone.

        Raises ConfigError if it cannot be read. [worker]
        """
        try:
            content = self.file.read_bytes()
        except OSError as error:
            raise ConfigError(f"{self.file}: {error.strerror}") from None
        if self.file.suffix == ".so":
            return any(name in content for name in EXPORTS)
        return self.named or b"sigrack_plugins" in content


def find_targets(texts: list[str]) -> list[Target]:
    """Return what the texts name, each file once; the bundled plugins without any. Raises ConfigError. [any]"""
    known = bundled()
    found = [target for text in texts or known for target in _targets(text, known)]
    return list({target.file: target for target in reversed(found)}.values())[::-1]


def _targets(text: str, known: dict[str, Path]) -> Iterator[Target]:
    path = Path(os.path.abspath(Path(text).expanduser()))
    if text in known:
        yield Target(known[text])
    elif path.is_dir():
        yield from _walk(path)
    elif path.exists():
        if path.suffix not in ENDINGS or not path.is_file():
            raise ConfigError(f"{path}: a plugin is a .so or a .py file")
        yield Target(path)
    elif "/" not in text and (file := module_file(text)):
        yield Target(file, text)
    else:
        raise ConfigError(f"{path}: no such file or folder{'' if '/' in text or path.suffix else nearest(text, list(known))}")


def _walk(folder: Path) -> Iterator[Target]:
    """Find files in a folder and those below; hidden ones and Python's caches are passed over."""
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
        for name in sorted(names):
            path = Path(where, name)
            if path.suffix in ENDINGS and not name.startswith(".") and path.is_file():
                yield Target(path, named=False)
