"""`python -m loadahead` runs the command line."""

from loadahead.cli.main import main

if __name__ == "__main__":
    main()
