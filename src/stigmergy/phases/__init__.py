"""Phases: categories of work, the artifacts that carry it, and what agents are told of it."""

from stigmergy.phases.context import PhaseContextProvider
from stigmergy.phases.nested import NestedWork
from stigmergy.phases.phase import PHASES, PhaseDefinition, PhaseInstructions, phase_of
from stigmergy.phases.recovery import Recovery
from stigmergy.phases.work import (
    AnalysisResult,
    Implementation,
    ValidationResult,
    WorkDiscovery,
    check_phase,
    nested_work,
)

__all__ = [
    "PHASES",
    "AnalysisResult",
    "Implementation",
    "NestedWork",
    "PhaseContextProvider",
    "PhaseDefinition",
    "PhaseInstructions",
    "Recovery",
    "ValidationResult",
    "WorkDiscovery",
    "check_phase",
    "nested_work",
    "phase_of",
]
