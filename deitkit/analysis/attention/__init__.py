"""What the class and the distillation token read of images."""
