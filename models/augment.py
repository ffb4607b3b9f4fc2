"""The same product, photographed otherwise: flipped, cropped, turned, in other light."""

import numpy as np
from PIL import Image, ImageEnhance

GREY = (127, 127, 127)


def augment(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """One random change of an RGB picture; the generator alone decides which."""
    image = _crop(image, generator)
    if generator.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if generator.random() < 0.5:
        angle = float(generator.uniform(-15, 15))
        image = image.rotate(angle, Image.Resampling.BILINEAR, expand=True, fillcolor=GREY)
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(float(generator.uniform(0.75, 1.3)))
    return image


def _crop(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Between half of the picture and all of it, anywhere, its shape changed by up to a third."""
    area = generator.uniform(0.5, 1.0)
    stretch = np.exp(generator.uniform(-np.log(4 / 3), np.log(4 / 3)))
    width = max(1, round(image.width * min(1.0, np.sqrt(area * stretch))))
    height = max(1, round(image.height * min(1.0, np.sqrt(area / stretch))))
    left = int(generator.integers(0, image.width - width + 1))
    top = int(generator.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))
