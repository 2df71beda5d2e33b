"""The name of a bug in a gradient: what the error looks like, in a sentence.

It may import what `checks` may. Start with `evidence.py`, which finds the wrong part, then
`naming.py`, which names the mistake.
"""

from minigd.checks.diagnosis.case import Case
from minigd.checks.diagnosis.evidence import explain
from minigd.checks.diagnosis.naming import diagnose

__all__ = ["Case", "diagnose", "explain"]
