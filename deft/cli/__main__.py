"""Run the command as `python -m deft.cli`."""

from deft.cli import main

main()
