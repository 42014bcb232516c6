"""Components: what watches a board and steers it, each a pure fold of the log."""

from stigmergy.blackboard.question import Remedy
from stigmergy.components.breaker import Breaker
from stigmergy.components.budget import Budget
from stigmergy.components.completion import Completion, WorkflowComplete, every_phase
from stigmergy.components.consensus import Consensus
from stigmergy.components.costs import Costs
from stigmergy.components.escalation import Escalation
from stigmergy.components.failures import Failures, WorkflowError
from stigmergy.components.fallback import Fallback
from stigmergy.components.progress import Progress
from stigmergy.components.questions import Questions
from stigmergy.components.quota import Quota
from stigmergy.components.statistics import Metrics, PhaseStatistics, WorkflowMetrics
from stigmergy.components.voting import Rule, Tally, Vote

__all__ = [
    "Breaker",
    "Budget",
    "Completion",
    "Consensus",
    "Costs",
    "Escalation",
    "Failures",
    "Fallback",
    "Metrics",
    "PhaseStatistics",
    "Progress",
    "Questions",
    "Quota",
    "Remedy",
    "Rule",
    "Tally",
    "Vote",
    "WorkflowComplete",
    "WorkflowError",
    "WorkflowMetrics",
    "every_phase",
]
