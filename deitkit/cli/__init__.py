"""The command line: parses, calls, renders. It does no mathematics, and imports what a verb needs when it runs."""
