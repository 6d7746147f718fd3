"""Pretrained and trainable image networks: U-Nets, their import, their place on disk.

Knows torch, files and the addresses of published weights; not config, studies or Ray.
"""
