"""What deitkit reads back, changed at random: an answer or a DeitkitError, and nothing else."""
