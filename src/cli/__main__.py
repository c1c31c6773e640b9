"""`python -m outlast.cli` is `outlast`."""

from outlast.cli import main

main()
