"""What a model gains and costs at other image sizes (Table 10)."""
