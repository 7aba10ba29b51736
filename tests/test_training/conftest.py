from tests.sequences import inputs, no_pictures  # noqa: F401
