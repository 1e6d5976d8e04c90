"""The console process: the control plane's HTTP API, and what was counted."""
