"""Agents whose body is a language model: what it is told, what it may answer, and how its answer becomes artifacts."""
