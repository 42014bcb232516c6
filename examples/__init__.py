"""Examples: each runs from the repository's root as `python -m examples.NAME`."""
