"""Questions to nodes that run: parameters, states and topics, as `ros2` asks them, for an environment without it."""
