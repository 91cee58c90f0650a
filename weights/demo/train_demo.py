"""Trains the demo network on drawn pictures: T2T-ViT_t, 224 px, on a processor with two cores in under two hours.

    python weights/demo/train_demo.py prepare --draw build/eval/t2tvit-draw --work WORK
    python weights/demo/train_demo.py train --work WORK --minutes 64:12 112:28 224:60
    python weights/demo/train_demo.py export --work WORK --checkpoint WORK/224.pth --out weights/demo/demo.safetensors

Needs PyTorch, Pillow, NumPy and safetensors. The network grows with the picture: 64, 112, then 224 px, with position
tables pooled from the final 14 x 14 one, so that every stage continues the one before. Tensor names, scales and the skip
from v are those of the official T2T-ViT code; vit/MODEL.md says them in words.
"""

import argparse
import json
import math
import multiprocessing
import os
import shutil
import subprocess
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn

EMBED_DIM, DEPTH, NUM_HEADS, MLP_RATIO, TOKEN_DIM = 192, 4, 3, 2, 64
IMAGE_SIZE, CROP_PCT = 224, 0.9
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRAIN_SEED, TRAIN_COUNT, TEST_SEED, TEST_COUNT, CHUNK = 1, 24000, 2, 1000, 200


# ---- the network ----


class Attention(nn.Module):
    """Multi-head self-attention of a block, or the single head of a token layer, whose skip starts from v."""

    def __init__(self, in_dim, dim, heads, scale, skip):
        super().__init__()
        self.dim, self.heads, self.scale, self.skip, self.mean_of_v = dim, heads, scale, skip, False
        self.qkv = nn.Linear(in_dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.mean_of_v:
            y = v.mean(2, keepdim=True).expand_as(v)
        else:
            y = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        y = self.proj(y.transpose(1, 2).reshape(batch, tokens, self.dim))
        return v.squeeze(1) + y if self.skip else y


class Mlp(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class TokenLayer(nn.Module):
    def __init__(self, in_dim):
        super().__init__()
        self.norm1 = nn.LayerNorm(in_dim)
        self.attn = Attention(in_dim, TOKEN_DIM, 1, in_dim**-0.5, skip=True)
        self.norm2 = nn.LayerNorm(TOKEN_DIM)
        self.mlp = Mlp(TOKEN_DIM, TOKEN_DIM)

    def forward(self, x):
        x = self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(EMBED_DIM), nn.LayerNorm(EMBED_DIM)
        self.attn = Attention(EMBED_DIM, EMBED_DIM, NUM_HEADS, (EMBED_DIM // NUM_HEADS) ** -0.5, skip=False)
        self.mlp = Mlp(EMBED_DIM, EMBED_DIM * MLP_RATIO)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TokensToToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention1, self.attention2 = TokenLayer(3 * 7 * 7), TokenLayer(9 * TOKEN_DIM)
        self.project = nn.Linear(9 * TOKEN_DIM, EMBED_DIM)

    def forward(self, x):
        x = F.unfold(x, 7, padding=2, stride=4).transpose(1, 2)
        for layer in (self.attention1, self.attention2):
            x = layer(x)
            side = math.isqrt(x.shape[1])
            x = x.transpose(1, 2).reshape(x.shape[0], TOKEN_DIM, side, side)
            x = F.unfold(x, 3, padding=1, stride=2).transpose(1, 2)
        return self.project(x)


def positions():
    """The official sinusoid table [1, 197, EMBED_DIM]."""
    column = np.arange(EMBED_DIM)
    angle = np.arange(IMAGE_SIZE**2 // 256 + 1)[:, None] / 10000.0 ** (2 * (column // 2) / EMBED_DIM)
    table = np.where(column % 2, np.cos(angle), np.sin(angle))
    return torch.from_numpy(table.astype(np.float32))[None]


class Network(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.tokens_to_token = TokensToToken()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, EMBED_DIM))
        self.pos_embed = nn.Parameter(positions(), requires_grad=False)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(EMBED_DIM)
        self.head = nn.Linear(EMBED_DIM, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def positions_of(self, tokens):
        side, full = math.isqrt(tokens), IMAGE_SIZE // 16
        if side == full:
            return self.pos_embed
        table = self.pos_embed[:, 1:].reshape(1, full, full, EMBED_DIM).permute(0, 3, 1, 2)
        table = F.interpolate(table, size=(side, side), mode="bilinear", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], table.flatten(2).transpose(1, 2)], 1)

    def forward(self, x):
        x = self.tokens_to_token(x)
        table = self.positions_of(x.shape[1])
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + table
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


# ---- pictures ----


def crop(path):
    """timm's evaluation transform up to the bytes: shorter side to 248 (bicubic), centre crop of 224."""
    picture = Image.open(path).convert("RGB")
    width, height = picture.size
    short = math.floor(IMAGE_SIZE / CROP_PCT)
    if width <= height:
        size = (short, int(short * height / width))
    else:
        size = (int(short * width / height), short)
    picture = picture.resize(size, Image.BICUBIC)
    left, top = (int(round((side - IMAGE_SIZE) / 2.0)) for side in size)
    return np.asarray(picture.crop((left, top, left + IMAGE_SIZE, top + IMAGE_SIZE)))


def draw_chunk(task):
    """Draws, crops and stores pictures start ... start + count - 1 of a series."""
    draw, folder, path, seed, start, count = task
    subprocess.run([draw, "--out", folder, "--seed", str(seed), "--start", str(start), "--count", str(count)], check=True)
    crops = np.load(path, mmap_mode="r+")
    for name in os.listdir(folder):
        for file in os.listdir(os.path.join(folder, name)):
            index = int(file.rsplit("_", 1)[1].split(".")[0])
            crops[index] = crop(os.path.join(folder, name, file))
    shutil.rmtree(folder)


def prepare(options):
    os.makedirs(options.work, exist_ok=True)
    classes = subprocess.run([options.draw, "--list-classes"], check=True, capture_output=True, text=True).stdout.split()
    with open(os.path.join(options.work, "classes.json"), "w") as file:
        json.dump(classes, file)
    for part, seed, count in (("test", TEST_SEED, TEST_COUNT), ("train", TRAIN_SEED, options.pictures)):
        path = os.path.join(options.work, part + ".npy")
        shape = (count, IMAGE_SIZE, IMAGE_SIZE, 3)
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).flush()
        tasks = [
            (options.draw, os.path.join(options.work, f"{part}-{start}"), path, seed, start, min(CHUNK, count - start))
            for start in range(0, count, CHUNK)
        ]
        with multiprocessing.Pool(2) as pool:
            for _ in pool.imap_unordered(draw_chunk, tasks):
                pass
        print(f"{part}: {count} pictures of seed {seed}", flush=True)


def load(options, part, size):
    """Crops shrunk to [n, size, size, 3], labels, class names. Smaller sizes are made once and kept."""
    crops = np.load(os.path.join(options.work, part + ".npy"), mmap_mode="r")
    with open(os.path.join(options.work, "classes.json")) as file:
        classes = json.load(file)
    labels = torch.arange(len(crops)) % len(classes)
    path = os.path.join(options.work, f"{part}-{size}.npy")
    if size != IMAGE_SIZE and not os.path.exists(path):
        small = np.empty((len(crops), size, size, 3), np.uint8)
        for i in range(0, len(crops), 100):
            x = torch.from_numpy(np.array(crops[i : i + 100])).permute(0, 3, 1, 2)
            x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
            small[i : i + 100] = x.permute(0, 2, 3, 1).numpy()
        np.save(path, small)
    if size != IMAGE_SIZE:
        crops = np.load(path, mmap_mode="r")
    return crops, labels, classes


def as_input(crops):
    x = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def augment(crops):
    """Turns, mirrors and swaps colour channels, a quarter of the batch alike: no class changes by any of these."""
    parts = []
    for part in np.array_split(crops, 4):
        part = np.rot90(part, np.random.randint(4), axes=(1, 2))
        if np.random.randint(2):
            part = part[:, :, ::-1]
        parts.append(part[..., np.random.permutation(3)])
    return np.ascontiguousarray(np.concatenate(parts))


# ---- training ----


def set_mean_of_v(network, on):
    for layer in (network.tokens_to_token.attention1, network.tokens_to_token.attention2):
        layer.attn.mean_of_v = on


@torch.inference_mode()
def predict(network, crops, batch=20):
    network.eval()
    answers = [network(as_input(np.array(crops[i : i + batch]))).argmax(1) for i in range(0, len(crops), batch)]
    network.train()
    return torch.cat(answers)


def report(network, crops, labels, classes, size):
    for name, on in (("exact", False), ("mean of v", True)):
        set_mean_of_v(network, on)
        answers = predict(network, crops)
        set_mean_of_v(network, False)
        right = answers == labels
        by_class = " ".join(f"{n}:{100 * right[labels == i].float().mean():.0f}" for i, n in enumerate(classes))
        print(f"{size} px {name}: top-1 {100 * right.float().mean():.1f} % of {len(labels)}  {by_class}", flush=True)


def train_stage(options, network, data, size, minutes, batch, rate):
    crops, labels, _ = data
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.05)
    begin, saved, step, seen, smooth = time.time(), time.time(), 0, 0, None
    warmup = 200 if size < IMAGE_SIZE else 40
    while (done := (time.time() - begin) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / warmup) * (0.5 * (1 + math.cos(math.pi * done)) + 0.01)
        chosen = np.sort(np.random.choice(len(crops), batch, replace=False))
        chosen = chosen[np.random.permutation(batch)]
        output = network(as_input(augment(crops[chosen])))
        loss = F.cross_entropy(output, labels[chosen], label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step, seen = step + 1, seen + batch
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        if step % 100 == 0:
            rate_now = seen / (time.time() - begin)
            print(f"{size} px step {step} seen {seen} loss {smooth:.3f} {rate_now:.0f} pictures/s", flush=True)
        if time.time() - saved > 240:
            torch.save(network.state_dict(), os.path.join(options.work, f"{size}.pth"))
            saved = time.time()
    torch.save(network.state_dict(), os.path.join(options.work, f"{size}.pth"))


def train(options):
    network = Network(len(load(options, "train", IMAGE_SIZE)[2]))
    if options.checkpoint:
        network.load_state_dict(torch.load(options.checkpoint))
    network.train()
    for stage in options.minutes:
        size, minutes = (int(part) for part in stage.split(":"))
        batch, rate = {64: (128, 1e-3), 112: (64, 5e-4), 224: (24, 2e-4)}[size]
        train_stage(options, network, load(options, "train", size), size, minutes, batch, rate)
        crops, labels, classes = load(options, "test", size)
        report(network, crops[:600], labels[:600], classes, size)


def export(options):
    crops, labels, classes = load(options, "test", IMAGE_SIZE)
    state = {name: tensor.half().contiguous() for name, tensor in torch.load(options.checkpoint).items()}
    metadata = {
        "model": "custom",
        "tokens_type": "transformer",
        "embed_dim": EMBED_DIM,
        "depth": DEPTH,
        "num_heads": NUM_HEADS,
        "mlp_ratio": MLP_RATIO,
        "token_dim": TOKEN_DIM,
        "image_size": IMAGE_SIZE,
        "crop_pct": CROP_PCT,
        "interpolation": "bicubic",
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "class_names": json.dumps(classes),
    }
    save_file(state, options.out, {key: str(value) for key, value in metadata.items()})
    network = Network(len(classes))
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    report(network, crops, labels, classes, IMAGE_SIZE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("prepare", "train", "export"))
    parser.add_argument("--work", required=True, help="folder for crops and checkpoints")
    parser.add_argument("--draw", default="build/eval/t2tvit-draw")
    parser.add_argument("--pictures", type=int, default=TRAIN_COUNT)
    parser.add_argument("--minutes", nargs="+", default=["64:12", "112:28", "224:60"], help="SIZE:MINUTES of each stage")
    parser.add_argument("--checkpoint", help="where to begin, or what to export")
    parser.add_argument("--out", default="weights/demo/demo.safetensors")
    options = parser.parse_args()
    torch.manual_seed(0)
    np.random.seed(0)
    torch.set_num_threads(2)
    {"prepare": prepare, "train": train, "export": export}[options.action](options)


if __name__ == "__main__":
    main()
