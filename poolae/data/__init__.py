"""The study's images: found, drawn or decoded, as planes of Lab, kept, grouped and split."""

from poolae.data.colour import lab01_to_rgb as lab01_to_rgb
from poolae.data.colour import recolour as recolour
from poolae.data.colour import rgb_to_lab01 as rgb_to_lab01
from poolae.data.decode import read_picture as read_picture
from poolae.data.images import Images as Images
from poolae.data.images import Part as Part
from poolae.data.images import Split as Split
from poolae.data.images import load as load
from poolae.data.images import load_for as load_for
from poolae.data.images import near_duplicates as near_duplicates
from poolae.data.images import open_images as open_images
from poolae.data.images import shuffle_tiles as shuffle_tiles
from poolae.data.images import split as split
from poolae.data.images import spread as spread
