"""Parts of the crossfeed plugin: a folder, so that `bundled` does not take them for plugins."""
