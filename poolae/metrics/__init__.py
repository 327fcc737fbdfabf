"""Scores of predicted chroma; what they are held against."""

from poolae.metrics.scores import BANDS as BANDS
from poolae.metrics.scores import BOUNDS as BOUNDS
from poolae.metrics.scores import DETAIL_BANDS as DETAIL_BANDS
from poolae.metrics.scores import accuracy_8bit as accuracy_8bit
from poolae.metrics.scores import accuracy_curve as accuracy_curve
from poolae.metrics.scores import area_under_accuracy as area_under_accuracy
from poolae.metrics.scores import band_power as band_power
from poolae.metrics.scores import block_means as block_means
from poolae.metrics.scores import block_r2 as block_r2
from poolae.metrics.scores import bright_error as bright_error
from poolae.metrics.scores import ciede2000 as ciede2000
from poolae.metrics.scores import colour_bias as colour_bias
from poolae.metrics.scores import colour_rarity as colour_rarity
from poolae.metrics.scores import colourfulness as colourfulness
from poolae.metrics.scores import colourfulness_ratio as colourfulness_ratio
from poolae.metrics.scores import error_over as error_over
from poolae.metrics.scores import gain_and_coherence as gain_and_coherence
from poolae.metrics.scores import histogram_intersection as histogram_intersection
from poolae.metrics.scores import image_scores as image_scores
from poolae.metrics.scores import lightness_coherence as lightness_coherence
from poolae.metrics.scores import mean_absolute_error as mean_absolute_error
from poolae.metrics.scores import own_block_r2 as own_block_r2
from poolae.metrics.scores import petal_auc as petal_auc
from poolae.metrics.scores import petal_classes as petal_classes
from poolae.metrics.scores import psnr as psnr
from poolae.metrics.scores import ssim as ssim
