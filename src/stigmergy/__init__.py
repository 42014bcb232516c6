"""Agents that coordinate through typed artifacts on a shared, durable blackboard."""

from stigmergy.agents.agent import Agent, FunctionAgent
from stigmergy.agents.builder import AgentBuilder
from stigmergy.agents.context import Context
from stigmergy.agents.roster import Roster
from stigmergy.agents.subscribe import ancestor
from stigmergy.blackboard.artifact import Artifact, Opaque
from stigmergy.blackboard.briefing import Briefing, ContextProvider, ContextRequest
from stigmergy.blackboard.component import (
    ACCEPT,
    ADMIT,
    Cancel,
    Close,
    Component,
    Deny,
    Hold,
    Publish,
    Redrive,
    Reject,
    Release,
    Seen,
    Withdraw,
)
from stigmergy.blackboard.definitions import Limits, Retry
from stigmergy.blackboard.errors import StigmergyError
from stigmergy.blackboard.report import Report
from stigmergy.blackboard.types import artifact_type
from stigmergy.blackboard.view import View, read
from stigmergy.blackboard.visibility import after, labelled, private, tenant
from stigmergy.board import Blackboard
from stigmergy.version import VERSION as __version__

from stigmergy.components import (  # isort: skip
    Completion, Consensus, Costs, Metrics, PhaseStatistics, Progress, Tally, Vote, WorkflowComplete, WorkflowMetrics,
)  # fmt: skip
from stigmergy.phases import (  # isort: skip
    PHASES, AnalysisResult, Implementation, NestedWork, PhaseContextProvider, PhaseDefinition, PhaseInstructions,
    ValidationResult, WorkDiscovery,
)  # fmt: skip
