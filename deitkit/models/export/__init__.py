"""Models written for where others use them: ONNX, timm, transformers, torch, safetensors. `formats` has the table."""
