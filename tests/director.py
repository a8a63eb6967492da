"""A plugin that does what a test wants at a given frame."""

__all__ = ["DIRECTOR"]

DIRECTOR = '''
from sigrack_plugins import Plugin

class Director(Plugin):
    """Does what a test has asked for when its frame has come."""
    steps = {}
    def on_start(self):
        self.futures = []
    def on_block(self, block):
        for frame in sorted(self.steps):
            if frame <= block.frame and (future := self.steps.pop(frame)(self.ctx)):
                self.futures.append(future)
'''
