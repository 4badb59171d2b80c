"""`python -m vexkd_model.cli`: the same as `vexkd`."""

import sys

from vexkd_model.cli import main

if __name__ == "__main__":
    sys.exit(main())
