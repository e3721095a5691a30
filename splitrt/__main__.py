"""`python -m splitrt`."""

from splitrt.cli import main

main()
