"""The policy engine on the real OPA server, as a supervised child process of one revision."""

from broker.adapters.opa.check import OpaCompiler
from broker.adapters.opa.child import OpaStartFailed
from broker.adapters.opa.engine import OpaEngine
from broker.adapters.opa.settings import OpaSettings
from broker.adapters.opa.trial import OpaTrials, TrialLimits

__all__ = ["OpaCompiler", "OpaEngine", "OpaSettings", "OpaStartFailed", "OpaTrials", "TrialLimits"]
