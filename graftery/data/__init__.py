"""Sample sets, noise images and the randomness that all of them share."""

from graftery.data.samples import SampleSet, choose

__all__ = ["SampleSet", "choose"]
