"""Where trials run: in this process (``local``) or in Ray Tune (``tune``).

The only package that imports Ray. May import everything except ``cli``.
"""
