"""Readers of stored networks: safetensors, and EDM pickles without executing them."""
