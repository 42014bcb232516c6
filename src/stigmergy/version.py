"""The version of this library, as boards record it."""

VERSION = "0.1.0"
