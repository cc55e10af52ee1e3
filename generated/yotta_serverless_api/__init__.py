"""Models and operations of Yotta Labs' Serverless API, generated from openapi/serverless.yaml: never edit them.

Change the document, its settings (openapi/generator.yaml) or a template (openapi/templates), then run `make generate`.
"""

from .client import AuthenticatedClient, Client

__all__ = (
    "AuthenticatedClient",
    "Client",
)
