"""One trial: train a discriminator ensemble and score its checkpoints.

May import ``problem`` and everything below it; neither files nor Ray.
"""
