"""Where the log is kept: in memory, or in one SQLite file."""
