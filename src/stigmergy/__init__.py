"""Agents that coordinate through typed artifacts on a shared, durable blackboard."""

from stigmergy.agents.agent import Agent, FunctionAgent
from stigmergy.agents.builder import AgentBuilder
from stigmergy.agents.context import Context
from stigmergy.agents.prompting.mcp import McpServer
from stigmergy.agents.prompting.prompt import Ask, PromptParts
from stigmergy.agents.prompting.template import PromptTemplate
from stigmergy.agents.roster import Roster
from stigmergy.agents.subscribe import ancestor
from stigmergy.blackboard.artifact import Artifact
from stigmergy.blackboard.briefing import Briefing, ContextProvider, ContextRequest
from stigmergy.blackboard.component import (
    ACCEPT,
    ADMIT,
    Cancel,
    Close,
    Component,
    Deny,
    Discard,
    Hold,
    Publish,
    Redrive,
    Reject,
    Release,
    Seen,
    Withdraw,
)
from stigmergy.blackboard.core.visibility import after, all_of, labelled, private, tenant
from stigmergy.blackboard.definitions import Limits, Retry
from stigmergy.blackboard.errors import StigmergyError
from stigmergy.blackboard.exhaustion import LimitReached
from stigmergy.blackboard.opaque import Opaque
from stigmergy.blackboard.payloads.types import artifact_type
from stigmergy.blackboard.question import HumanAnswer, HumanQuestion
from stigmergy.blackboard.reading.report import Report
from stigmergy.blackboard.reading.view import View, read
from stigmergy.blackboard.stores.copies import backup, vacuum
from stigmergy.blackboard.stores.verify import recover, verify
from stigmergy.board import Blackboard
from stigmergy.components import (
    Breaker,
    Budget,
    Completion,
    Consensus,
    Costs,
    Escalation,
    Failures,
    Fallback,
    Metrics,
    PhaseStatistics,
    Progress,
    Questions,
    Quota,
    Remedy,
    Tally,
    Vote,
    WorkflowComplete,
    WorkflowError,
    WorkflowMetrics,
)
from stigmergy.phases import (
    PHASES,
    AnalysisResult,
    Implementation,
    NestedWork,
    PhaseContextProvider,
    PhaseDefinition,
    PhaseInstructions,
    Recovery,
    ValidationResult,
    WorkDiscovery,
)
from stigmergy.replay import Difference, replay
from stigmergy.version import VERSION as __version__

__all__ = [
    "ACCEPT",
    "ADMIT",
    "PHASES",
    "Agent",
    "AgentBuilder",
    "AnalysisResult",
    "Artifact",
    "Ask",
    "Blackboard",
    "Breaker",
    "Briefing",
    "Budget",
    "Cancel",
    "Close",
    "Completion",
    "Component",
    "Consensus",
    "Context",
    "ContextProvider",
    "ContextRequest",
    "Costs",
    "Deny",
    "Difference",
    "Discard",
    "Escalation",
    "Failures",
    "Fallback",
    "FunctionAgent",
    "Hold",
    "HumanAnswer",
    "HumanQuestion",
    "Implementation",
    "LimitReached",
    "Limits",
    "McpServer",
    "Metrics",
    "NestedWork",
    "Opaque",
    "PhaseContextProvider",
    "PhaseDefinition",
    "PhaseInstructions",
    "PhaseStatistics",
    "Progress",
    "PromptParts",
    "PromptTemplate",
    "Publish",
    "Questions",
    "Quota",
    "Recovery",
    "Redrive",
    "Reject",
    "Release",
    "Remedy",
    "Report",
    "Retry",
    "Roster",
    "Seen",
    "StigmergyError",
    "Tally",
    "ValidationResult",
    "View",
    "Vote",
    "Withdraw",
    "WorkDiscovery",
    "WorkflowComplete",
    "WorkflowError",
    "WorkflowMetrics",
    "__version__",
    "after",
    "all_of",
    "ancestor",
    "artifact_type",
    "backup",
    "labelled",
    "private",
    "read",
    "recover",
    "replay",
    "tenant",
    "vacuum",
    "verify",
]
