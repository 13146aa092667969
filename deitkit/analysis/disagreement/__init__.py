"""Who decides differently from whom (Table 4)."""
