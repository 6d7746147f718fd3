"""Engines that run trials: in this process (``local``) or in Ray Tune (``tune``).

The only package that imports Ray; may import every package except ``cli``.
"""
