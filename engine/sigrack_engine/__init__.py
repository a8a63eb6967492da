"""The signal path around the native core. Import what you need from its modules: most of them need numpy, `core` does not."""
