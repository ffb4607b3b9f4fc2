"""The commands, one file a noun. What is heavy is imported when a command runs, not before."""
