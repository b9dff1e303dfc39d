"""What trainings of all methods share: the optimiser's loop, its pace, checkpoints, and the same bits at every run."""
