"""Plugin files as Python modules: each content is run once, as it was read, under a name of its own.

In sys.modules stay the newest content of each file and those that somebody uses; the others go with their last user.
"""

import hashlib
import importlib
import sys
import threading
import weakref
from asyncio import CancelledError
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from sigrack.errors import ConfigError, place
from sigrack.quarantine import admit, content_hash

__all__ = ["hold", "import_plugin", "module_file", "module_hash"]

_importing = threading.RLock()
"""Nobody sees a module before all of it has run."""
_newest: dict[Path, str] = {}
"""The module that each file was last."""
_users: dict[str, set[object]] = {}
"""A token for each living user of a module."""


class _Loader(SourceFileLoader):
    """Runs what was read, whatever the file holds by now.

    No bytecode of an earlier run stands for it: Python tells contents apart by their length and by whole seconds only.
    """

    def __init__(self, name: str, path: Path, content: bytes) -> None:
        super().__init__(name, str(path))
        self._content = content
        self.sha256 = hashlib.sha256(content).hexdigest()

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._content, self.path)


def import_plugin(target: Path | str, user: object) -> ModuleType:
    """Import a file or a dotted module for `user`. Raises ConfigError, one line for whatever its code raises. [main, worker]

    QuarantinedError before any of its code runs.
    """
    try:
        return _import_file(target, user) if isinstance(target, Path) else _import_module(target)
    except ConfigError:
        raise
    except (Exception, SystemExit, CancelledError) as error:
        raise ConfigError(f"{place(error) or target}: cannot be imported: {type(error).__name__}: {error}") from error


def module_file(name: str) -> Path | None:
    """Return the file of a dotted module, without importing any of its packages; None if it has none. [any]"""
    folders = None
    spec = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:end]), folders)
        if spec is None or (end < len(parts) and spec.submodule_search_locations is None):
            return None
        folders = spec.submodule_search_locations
    return Path(spec.origin) if spec and spec.origin and spec.has_location else None


def module_hash(module: ModuleType) -> str:
    """Return the sha256 of the content that was run, of a dotted module that of its file; empty if it has none. [main, worker]"""
    if isinstance(module.__loader__, _Loader):
        return module.__loader__.sha256
    return content_hash(Path(module.__file__)) if module.__file__ else ""


def hold(name: str, user: object) -> None:
    """Keep the module `name` of a file as long as `user` lives, too. [main, worker]"""
    if (users := _users.get(name)) is not None:
        token = object()
        users.add(token)
        weakref.finalize(user, _let_go, users, token).atexit = False


def _let_go(users: set[object], token: object) -> None:
    """Note the end of a user, on whatever thread that is; an import that is under way sweeps when it has ended."""
    users.discard(token)
    if _importing.acquire(blocking=False):
        try:
            _sweep()
        finally:
            _importing.release()


def _sweep() -> None:
    """Drop what nobody uses and is not the newest. [with the lock]"""
    newest = set(_newest.values())
    for name in list(_users):
        if not _users.get(name, newest) and name not in newest:  # what ends meanwhile may come here, too
            _users.pop(name, None)
            sys.modules.pop(name, None)


def _import_module(name: str) -> ModuleType:
    if file := module_file(name):
        admit(file, content_hash(file))
    return importlib.import_module(name)


def _import_file(path: Path, user: object) -> ModuleType:
    """Import a file; equal stems do not meet."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    name = f"sigrack_plugin_{path.stem}_{hashlib.sha256(str(path).encode() + content).hexdigest()[:12]}"
    admit(path, hashlib.sha256(content).hexdigest())
    with _importing:
        _newest[path] = name
        module = sys.modules.get(name) or _execute(path, name, content)
        _users.setdefault(name, set())
        hold(name, user)
        _sweep()
    return module


def _execute(path: Path, name: str, content: bytes) -> ModuleType:
    spec = spec_from_file_location(name, path, loader=_Loader(name, path, content))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
