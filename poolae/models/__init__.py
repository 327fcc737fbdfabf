"""Autoencoders that predict chroma from lightness."""

from poolae.models.architectures import Op, Stage, matched_ops, published_ops
from poolae.models.autoencoder import (
    Autoencoder,
    build,
    build_for,
    effective_receptive_field,
    fold,
    gradient_map,
)
from poolae.models.layers import BlurPool, Conv, convolve_upsampled

__all__ = [
    "Autoencoder",
    "BlurPool",
    "Conv",
    "Op",
    "Stage",
    "build",
    "build_for",
    "convolve_upsampled",
    "effective_receptive_field",
    "fold",
    "gradient_map",
    "matched_ops",
    "published_ops",
]
