"""`deitkit runs`: one file a verb, or two that belong together."""
