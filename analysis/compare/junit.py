"""Gates as JUnit XML, which continuous integration shows beside its tests."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from analysis.compare.gates import FAILED, PASSED, Gate
from workloads.files import visible


def junit_text(gates: Sequence[Gate], broken: Sequence[str] = ()) -> str:
    """One test case a gate: a failure where it failed, an error where it cannot be decided; and a
    failure for each check that did not hold, and each run that failed in B alone.
    """
    suite = ElementTree.Element("testsuite", name="cwkit compare")
    failures = errors = 0
    for gate in gates:
        name = visible(f"{gate.condition.text}: {gate.found.b} against {gate.found.a}")
        case = ElementTree.SubElement(suite, "testcase", classname="cwkit.gate", name=name)
        if gate.outcome != PASSED:
            kind = "failure" if gate.outcome == FAILED else "error"
            failures, errors = failures + (kind == "failure"), errors + (kind == "error")
            ElementTree.SubElement(case, kind, message=visible(gate.sentence))
    for line in broken:
        case = ElementTree.SubElement(
            suite, "testcase", classname="cwkit.check", name=visible(line)
        )
        ElementTree.SubElement(case, "failure", message=visible(line))
        failures += 1
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    suite.set("errors", str(errors))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
