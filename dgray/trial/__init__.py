"""One trial: training of a discriminator ensemble and evaluation of its checkpoints.

May import ``problem`` and all packages below it; imports no Ray.
"""
