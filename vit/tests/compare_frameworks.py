"""Whole forwards of t2t_vit_t_14 beside PyTorch's, in one run and taking turns; not part of the tests.

    cmake --build build --target bench_forward
    python vit/tests/compare_frameworks.py --bench build/vit/bench_forward [--batch 8] [--threads 2] [--rounds 15]

Needs PyTorch, NumPy and safetensors; ONNX Runtime (with onnx) and OpenVINO take part where they are installed. All get
the same random weights and pictures, float32, the same number of threads; PyTorch uses scaled_dot_product_attention.
With --bfloat16 this network, PyTorch (autocast) and OpenVINO (its hint) also run in bfloat16. A round is one forward of
each in turn; the table shows the median of each and of the rounds' own ratios.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import save_file

spec = importlib.util.spec_from_file_location(
    "train_demo", os.path.join(os.path.dirname(__file__), "..", "..", "weights", "demo", "train_demo.py")
)
network = importlib.util.module_from_spec(spec)
spec.loader.exec_module(network)
network.EMBED_DIM, network.DEPTH, network.NUM_HEADS, network.MLP_RATIO = 384, 14, 6, 3


class Ours:
    def __init__(self, options, weights, method, dtype="float32"):
        self.name = f"t2tvit {method}" + ("" if dtype == "float32" else f" {dtype}")
        self.logits = tempfile.NamedTemporaryFile()
        sizes = [str(options.batch), str(options.threads)]
        arguments = [options.bench, weights, *sizes, method, self.logits.name, dtype]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        print(f"{self.name}: {self.process.stdout.readline().strip()}")

    def run(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def answer(self):
        return np.fromfile(self.logits.name, np.float32)


class Timed:
    """A framework in this process: `call` runs one forward and returns the logits."""

    def __init__(self, name, call):
        self.name, self.call = name, call

    def run(self):
        import time

        begin = time.perf_counter()
        self.result = self.call()
        return 1e3 * (time.perf_counter() - begin)

    def answer(self):
        return np.asarray(self.result).ravel()


def philox_normal(count):
    """The pictures of bench_forward: Philox4x32-10 with seed 1, Box and Muller on pairs."""
    multiplier, bump = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
    blocks = (count + 3) // 4
    c = [np.arange(blocks, dtype=np.uint64), *(np.full(blocks, v, np.uint64) for v in (0, 0, 255))]
    k = [1, 0]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        first, second = c[0] * np.uint64(multiplier[0]), c[2] * np.uint64(multiplier[1])
        c = [
            (second >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]),
            second & low,
            (first >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]),
            first & low,
        ]
        k = [(k[0] + bump[0]) & 0xFFFFFFFF, (k[1] + bump[1]) & 0xFFFFFFFF]
    numbers = [x.astype(np.float64) for x in c]
    out = np.empty((blocks, 4))
    for pair in (0, 2):
        radius = np.sqrt(-2 * np.log((numbers[pair] + 0.5) * 2.0**-32))
        angle = 2 * np.pi * numbers[pair + 1] * 2.0**-32
        out[:, pair], out[:, pair + 1] = radius * np.cos(angle), radius * np.sin(angle)
    return out.ravel()[:count].astype(np.float32)


def other_frameworks(model, images, threads, folder, bfloat16):
    contenders = []

    def autocast():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(images).float()

    if bfloat16:
        contenders.append(Timed(f"PyTorch {torch.__version__.split('+')[0]} bfloat16", autocast))
    path = os.path.join(folder, "model.onnx")
    try:
        import onnxruntime

        torch.onnx.export(model, images, path, opset_version=17, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: images.numpy()}
        contenders.append(Timed(f"ONNX Runtime {onnxruntime.__version__}", lambda: session.run(None, feed)[0]))
    except ImportError:
        print("ONNX Runtime is not installed")
    try:
        import openvino

        core = openvino.Core()
        converted = core.read_model(path) if os.path.exists(path) else openvino.convert_model(model, example_input=images)
        for hint, suffix in (("f32", ""), ("bf16", " bfloat16"))[: 2 if bfloat16 else 1]:
            config = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
            compiled = core.compile_model(converted, "CPU", config)
            name = f"OpenVINO {openvino.__version__[:8]}{suffix}"
            contenders.append(Timed(name, lambda compiled=compiled: compiled(images.numpy())[0]))
    except ImportError:
        print("OpenVINO is not installed")
    return contenders


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/vit/bench_forward")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bfloat16", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    model = network.Network(1000).eval()
    images = torch.from_numpy(philox_normal(options.batch * 3 * 224 * 224)).view(options.batch, 3, 224, 224)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        weights = os.path.join(folder, "weights.safetensors")
        state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, weights, {"model": "t2t_vit_t_14"})
        contenders = [Ours(options, weights, "exact"), Ours(options, weights, "kdeformer")]
        if options.bfloat16:
            contenders += [Ours(options, weights, method, "bfloat16") for method in ("exact", "kdeformer")]
        contenders.append(Timed(f"PyTorch {torch.__version__.split('+')[0]}", lambda: model(images)))
        contenders += other_frameworks(model, images, options.threads, folder, options.bfloat16)
        for contender in contenders:
            contender.run()
            contender.run()
        wanted = model(images).numpy().ravel()
        for contender in contenders:
            if "kdeformer" not in contender.name:
                error = np.abs(contender.answer() - wanted).max() / wanted.std()
                print(f"{contender.name}: largest difference from PyTorch {error:.1e} standard deviations")
                if not error < (0.1 if contender.name.endswith("bfloat16") else 1e-3):
                    sys.exit("the contenders compute different things")
        times = {contender.name: [] for contender in contenders}
        for _ in range(options.rounds):
            for contender in contenders:
                times[contender.name].append(contender.run())
    print(f"t2t_vit_t_14, 224 px, batch {options.batch}, {options.threads} threads, {options.rounds} rounds")
    bases = [name for name in times if name.startswith("t2tvit exact")]
    heads = "".join(f"{'time / ' + name:>30}" for name in bases)
    print(f"{'':28}{'ms a forward':>14}{'quartiles':>20}{'pictures/s':>12}{heads}")
    for name, ms in times.items():
        low, _, high = statistics.quantiles(ms, n=4)
        ratios = (statistics.median(a / b for a, b in zip(ms, times[base])) for base in bases)
        tail = "".join(f"{ratio:30.2f}" for ratio in ratios)
        median = statistics.median(ms)
        print(f"{name:28}{median:14.1f}{f'{low:.1f} - {high:.1f}':>20}{1e3 * options.batch / median:12.2f}{tail}")


if __name__ == "__main__":
    main()
