"""`python -m cli` is `tallygate`."""

from cli.main import main

main()
