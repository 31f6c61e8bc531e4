"""Run the command line from an uninstalled checkout: `python -m exitkit`."""

from exitkit.cli.main import main

if __name__ == "__main__":
    main()
