"""`python -m tercet` is the same as `tercet`."""

from __future__ import annotations

from tercet.cli import main

if __name__ == "__main__":
    main()
