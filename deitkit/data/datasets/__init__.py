"""The published data sets, one file each: where their labels and images lie."""
