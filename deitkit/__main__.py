"""`python -m deitkit`: the command line without its console script."""

from deitkit.cli.app import main

if __name__ == "__main__":
    main()
