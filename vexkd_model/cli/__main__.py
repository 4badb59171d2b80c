"""Entry point of `python -m vexkd_model.cli`."""

import sys

from vexkd_model.cli import main

if __name__ == "__main__":
    sys.exit(main())
