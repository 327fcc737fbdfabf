"""Training one network, and the finished runs on disk; begin with `loop`."""
