"""Reading what was counted: for the console, billing and the command line."""
