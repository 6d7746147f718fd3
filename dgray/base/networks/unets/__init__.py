"""The U-Nets of EDM and their layers, with EDM's parameter names."""
