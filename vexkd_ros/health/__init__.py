"""Health of a node: counters, latencies, diagnostic messages, and why an input is silent."""
