"""The control surface: everything under /_emulator/."""
