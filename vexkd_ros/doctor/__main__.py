"""`python -m vexkd_ros.doctor`."""

import sys

from vexkd_ros.doctor.command import main

sys.exit(main())
