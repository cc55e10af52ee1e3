"""A TCP proxy that breaks what passes through it, on purpose and repeatably; it knows nothing of HTTP or the API."""
