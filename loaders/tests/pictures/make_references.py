"""Makes the pictures of this folder and the sha256 of what Pillow and torchvision make of them (Pillow 13, torchvision).

Usage: make_references.py   writes bicubic/ and bilinear/ beside this file. Not part of the tests.
"""
import hashlib, io, json, math, os
import numpy as np
import PIL
import torchvision.transforms as T
from PIL import Image
from torchvision.transforms import InterpolationMode

here = os.path.dirname(os.path.abspath(__file__))


def noise(width, height, channels, seed):
    random = np.random.RandomState(seed)
    coarse = Image.fromarray((random.rand(6, 8, 3) * 255).astype(np.uint8)).resize((width, height), Image.BICUBIC)
    pixels = np.asarray(coarse).astype(int) + random.randint(-9, 10, (height, width, 3))
    return pixels.clip(0, 255).astype(np.uint8)[:, :, :channels].squeeze()


def ycck(path, width, height, seed):
    """A YCCK file: Pillow writes CMYK only, so its Adobe marker's transform and the components are set by hand."""
    rgb = Image.fromarray(noise(width, height, 3, seed)).convert('YCbCr')
    black = Image.fromarray(noise(width, height, 1, seed + 1))
    merged = Image.merge('CMYK', rgb.split() + (black,))
    buffer = io.BytesIO()
    merged.save(buffer, 'JPEG', quality=90)
    data = bytearray(buffer.getvalue())
    at = data.find(b'Adobe')
    assert at > 0
    data[at + 11] = 2
    open(path, 'wb').write(data)


def pictures(folder):
    os.makedirs(folder, exist_ok=True)
    save = lambda image, name, **options: image.save(os.path.join(folder, name), **options)
    rgb = Image.fromarray(noise(90, 70, 3, 1))
    ycck(os.path.join(folder, 'ycck.jpg'), 120, 91, 5)
    save(rgb, 'rgb.png')
    save(Image.merge('RGBA', rgb.split() + (Image.fromarray(noise(90, 70, 1, 2)),)), 'rgba.png')
    save(rgb.convert('P', palette=Image.ADAPTIVE), 'palette.png')
    save(rgb.convert('P', palette=Image.ADAPTIVE, colors=7), 'palette_transparent.png', transparency=0)
    save(rgb.convert('L'), 'grey.png')
    save(rgb.convert('LA'), 'grey_alpha.png')
    save(rgb.convert('1'), 'bits.png')
    save(rgb.convert('L').quantize(4), 'palette_2_bits.png', bits=2)
    deep = (np.arange(90 * 70).reshape(70, 90) * 5 % 700).astype(np.uint16)
    save(Image.fromarray(deep), 'grey_16_bits.png')
    save(Image.fromarray(noise(300, 200, 3, 3)), 'large_as_png.JPEG', format='PNG')
    save(Image.fromarray(noise(500, 333, 3, 4)), 'photo.jpg', quality=85)
    return sorted(os.listdir(folder))


def sha(image):
    return hashlib.sha256(np.asarray(image).tobytes()).hexdigest()


for name, mode, crop_pct in (('bicubic', InterpolationMode.BICUBIC, 0.9), ('bilinear', InterpolationMode.BILINEAR, 0.875)):
    cases = []
    folder = os.path.join(here, name)
    for file in pictures(os.path.join(folder, 'images')):
        image = Image.open(os.path.join(folder, 'images', file))
        rgb = image.convert('RGB')
        crop = lambda size: T.CenterCrop(size)(T.Resize(math.floor(size / crop_pct), mode)(rgb))
        cases.append(dict(file='images/' + file, width=image.width, height=image.height, mode=image.mode,
                          decoded_rgb_sha256=sha(rgb), crop_224_sha256=sha(crop(224)), crop_384_sha256=sha(crop(384))))
    index = dict(pillow=PIL.__version__, crop_pct=crop_pct, interpolation=name, cases=cases)
    json.dump(index, open(os.path.join(folder, 'index.json'), 'w'), indent=1)
    print(name, [c['mode'] for c in cases])
