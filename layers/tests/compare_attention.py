"""One attention beside PyTorch's, in one run and taking turns; not part of the tests.

    cmake --build build --target bench_one
    python layers/tests/compare_attention.py [--bench build/layers/bench_one] [--published DIR] [--batch 1] [--threads 1]

Needs PyTorch and NumPy. Exact attention stands beside scaled_dot_product_attention on the same numbers. With a checkout
of github.com/majid-daliri/kdeformer (and einops) in DIR its KDEformer takes part, at the published sizes: 7 projections,
buckets of 32, 98 samples (24 where there are fewer than 3136 tokens). float32, one head of 64 channels. A round is one
call of each, warmed by one that is not timed; the table shows medians, quartiles and the rounds' own ratios.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

WIDTH = 64


class Ours:
    def __init__(self, method, options, output):
        self.name = f"t2tvit {method}"
        arguments = [options.bench, method, *(str(n) for n in (options.tokens, options.batch, options.threads)), output]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.kernels = self.process.stdout.readline().split()[1]

    def run(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


class Timed:
    def __init__(self, name, call):
        self.name, self.call = name, call

    def run(self):
        self.call()
        begin = time.perf_counter()
        self.call()
        return 1e3 * (time.perf_counter() - begin)


def published(folder, q, k, v):
    spec = importlib.util.spec_from_file_location("kdeformer", os.path.join(folder, "vit_models", "kdeformer.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    samples = 98 if q.shape[2] >= 3136 else 24
    attention = module.KDEformer(
        dim=WIDTH, softmax_temp=147**-0.5, sample_size=samples, num_projs=7, Bucket_size=32
    ).eval()
    return lambda: attention(q, k, v, need_weights=False)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/layers/bench_one")
    parser.add_argument("--published", help="a checkout of the published code")
    parser.add_argument("--tokens", type=int, default=3136)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        output = os.path.join(folder, "exact")
        exact = Ours("exact", options, output)
        numbers = np.fromfile(output, np.float32)
        rows = options.batch * options.tokens
        qkv = torch.from_numpy(numbers[: rows * 3 * WIDTH]).view(options.batch, options.tokens, 3, 1, WIDTH)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous().unbind(0)
        sdpa = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=147**-0.5)
        difference = np.abs(sdpa().numpy().ravel() - numbers[rows * 3 * WIDTH :]).max()
        print(f"exact and scaled_dot_product_attention differ by at most {difference:.1e}")
        if not difference < 1e-4:
            sys.exit("they compute different things")
        contenders = [
            exact,
            Ours("kdeformer", options, os.devnull),
            Ours("kdeformer:published", options, os.devnull),
            Timed(f"PyTorch {torch.__version__.split('+')[0]} SDPA", sdpa),
        ]
        if options.published:
            contenders.append(Timed("published KDEformer", published(options.published, q, k, v)))
        times = {contender.name: [] for contender in contenders}
        for round in range(options.rounds + 1):
            for contender in contenders:
                elapsed = contender.run()
                if round:
                    times[contender.name].append(elapsed)
    print(
        f"n {options.tokens}, batch {options.batch}, {options.threads} threads, {options.rounds} rounds, float32,"
        f" {exact.kernels} kernels, scale {147**-0.5:.4f}"
    )
    names = ("t2tvit exact", "t2tvit kdeformer:published")
    print(f"{'':28}{'ms a call':>10}{'quartiles':>20}{'/ exact':>12}{'/ kdeformer:published':>24}")
    for name, ms in times.items():
        low, _, high = statistics.quantiles(ms, n=4)
        ratios = [statistics.median(a / b for a, b in zip(ms, times[base])) for base in names]
        spread = f"{low:.2f} - {high:.2f}"
        print(f"{name:28}{statistics.median(ms):10.2f}{spread:>20}{ratios[0]:12.3f}{ratios[1]:24.2f}")


if __name__ == "__main__":
    main()
