"""`deitkit data`: one file a verb; `shared` is what they share."""
