"""A model behind a web page and an HTTP API on this machine (`deitkit serve`). Trains nothing and keeps nothing."""
