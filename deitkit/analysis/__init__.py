"""Analyses: predictions or tokens in, a Report out. None of them prints or knows a command line."""
