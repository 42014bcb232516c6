"""Artifact types, and how their payloads come and go as JSON."""
