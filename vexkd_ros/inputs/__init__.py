"""Messages → Frame: point clouds, images, transforms, synchronisation and the accumulation of sweeps."""
