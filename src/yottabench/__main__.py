"""`python -m yottabench` is the command `yottabench`."""

from yottabench.cli import main

main()
