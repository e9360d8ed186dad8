"""Starts a Cellwright kernel: `python -m cellwright.kernels.inside -f CONNECTION_FILE`."""

from cellwright.kernels.inside.kernel import main

if __name__ == "__main__":
    main()
