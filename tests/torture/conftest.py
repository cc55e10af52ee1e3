"""Adds up what the tests of crashes looked at, for whoever runs them by hand."""

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counted: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                counted.update({name: n for name, n in report.user_properties if isinstance(n, int)})
    if counted:
        terminalreporter.write_line("Looked at: " + ", ".join(f"{n:,} {name}" for name, n in sorted(counted.items())))
