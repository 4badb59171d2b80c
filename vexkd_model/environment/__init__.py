"""`vexkd env`: what this installation consists of, and what in it does not fit together."""
