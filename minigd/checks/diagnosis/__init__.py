"""The name of a bug in a gradient: what the error looks like, said in a sentence.

`explain` finds the part at fault and tries it in several batches; `diagnose` names the slip.
"""

from minigd.checks.diagnosis.case import Case
from minigd.checks.diagnosis.evidence import explain
from minigd.checks.diagnosis.naming import diagnose

__all__ = ["Case", "diagnose", "explain"]
