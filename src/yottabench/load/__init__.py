"""What a load run needs besides Locust: profiles, schedules, journals, the audit, latencies, reports."""
