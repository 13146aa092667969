"""Accuracy against throughput (Figure 1, Table 5)."""
