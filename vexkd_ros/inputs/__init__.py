"""Messages → Frame: point clouds, transforms and the accumulation of sweeps."""
