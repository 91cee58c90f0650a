"""The loader against Pillow on the same pictures, one thread each, in turns: file to 224 x 224 crop.

    pip install pillow
    cmake --build build --target bench_loader
    taskset -c 1 python loaders/tests/compare_pillow.py build/loaders/bench_loader PICTURES [ROUNDS]

Prints each side's median milliseconds a picture and the geometric mean over pictures of the ratios of their medians.
"""

import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

import PIL
from PIL import Image, features


def with_pillow(path):
    """Seconds of decoding, and of resizing and cropping."""
    begin = time.perf_counter()
    picture = Image.open(path).convert("RGB")
    decoded = time.perf_counter()
    shorter = min(picture.size)
    picture = picture.resize([int(248 * side / shorter) for side in picture.size], Image.Resampling.BICUBIC)
    left, top = ((side - 224) // 2 for side in picture.size)
    picture.crop((left, top, left + 224, top + 224)).load()
    return decoded - begin, time.perf_counter() - decoded


def main():
    program, folder, rounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 5
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    ours = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def with_ours(path):
        ours.stdin.write(f"{path}\n")
        ours.stdin.flush()
        return tuple(1e-3 * float(number) for number in ours.stdout.readline().split())

    medians = {with_pillow: [], with_ours: []}
    for path in paths:
        times = {side: [] for side in medians}
        for turn in range(rounds + 1):
            for side in sorted(medians, key=lambda side: (side is with_ours) ^ turn % 2):
                times[side].append(side(path))
        for side, pairs in times.items():
            medians[side].append([statistics.median(column) for column in zip(*pairs[1:])])
    print(f"{len(paths)} pictures, median of {rounds} rounds each; Pillow {PIL.__version__}, "
          f"libjpeg-turbo {features.version_feature('libjpeg_turbo')}")
    for name, side in (("Pillow", with_pillow), ("loader", with_ours)):
        decode, resize = (1e3 * statistics.mean(column) for column in zip(*medians[side]))
        print(f"{name}: decode {decode:.3f} ms, resize and crop {resize:.3f} ms")
    ratios = [sum(theirs) / sum(mine) for theirs, mine in zip(medians[with_pillow], medians[with_ours])]
    quartiles = statistics.quantiles(ratios, n=4)
    mean = math.exp(statistics.mean(map(math.log, ratios)))
    print(f"Pillow's time over the loader's: geometric mean {mean:.2f}, quartiles {quartiles[0]:.2f} to {quartiles[2]:.2f}")


if __name__ == "__main__":
    main()
