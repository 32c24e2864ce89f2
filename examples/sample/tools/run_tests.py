"""Runs the unit tests of a directory and, if asked, writes a JUnit report: run_tests.py DIRECTORY [REPORT]"""

import sys
import time
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


class TimedResult(unittest.TextTestResult):
    """Remembers each test with its time and what went wrong."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.cases = []
        self.problem = None

    def startTest(self, test):
        super().startTest(test)
        self.began = time.perf_counter()
        self.problem = None

    def stopTest(self, test):
        super().stopTest(test)
        self.cases.append((test, time.perf_counter() - self.began, self.problem))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.problem = ("failure", err, self._exc_info_to_string(err, test))

    def addError(self, test, err):
        super().addError(test, err)
        self.problem = ("error", err, self._exc_info_to_string(err, test))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.problem = ("skipped", reason, "")


def write_report(result, path):
    suite = xml.Element(
        "testsuite",
        name="greeter",
        tests=str(len(result.cases)),
        failures=str(len(result.failures)),
        errors=str(len(result.errors)),
        skipped=str(len(result.skipped)),
    )
    for test, seconds, problem in result.cases:
        class_name, _, name = test.id().rpartition(".")
        case = xml.SubElement(suite, "testcase", classname=class_name, name=name, time=f"{seconds:.4f}")
        if problem:
            kind, what, text = problem
            message = what if isinstance(what, str) else f"{what[0].__name__}: {what[1]}"
            xml.SubElement(case, kind, message=message).text = text
    xml.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def main():
    directory, *report = sys.argv[1:]
    root = str(Path(__file__).resolve().parent.parent)
    tests = unittest.defaultTestLoader.discover(directory, top_level_dir=root)
    runner = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=TimedResult)
    result = runner.run(tests)
    if report:
        write_report(result, report[0])
    sys.exit(0 if result.wasSuccessful() and result.testsRun > 0 else 1)


if __name__ == "__main__":
    main()
