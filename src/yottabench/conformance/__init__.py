"""Holds documents, traffic and running services to the documented API."""
