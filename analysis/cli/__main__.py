"""`python -m analysis.cli` is the command `cwkit`."""

from analysis.cli.entry import main

if __name__ == "__main__":
    main()
