"""How alike the class and the distillation token are, by depth (Sec. 5.2)."""
