"""The command line."""

from stigmergy.cli.app import app, main

__all__ = ["app", "main"]
