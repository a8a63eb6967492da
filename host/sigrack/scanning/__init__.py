"""Plugins are tried in processes of their own: what does harm there, does none in a rack.

The keeper of lanes forks a child for each plugin, limits it, and ends all that it leaves behind. The child tells through a pipe
what it is about to do, so that it is known where a plugin was when it died.
"""

from sigrack.scanning.scanner import Result, Scanner
from sigrack.scanning.targets import Target, find_targets

__all__ = ["Result", "Scanner", "Target", "find_targets"]
