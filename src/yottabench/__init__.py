"""Client, local emulator and load harness for Yotta Labs' Serverless endpoints (unofficial)."""

__version__ = "0.1.0"
