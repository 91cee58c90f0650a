"""What the kernels compute, by definition: in float64, and in whole numbers where samples are drawn
(layers/kdeformer.md, kdeformer-sampling.md)."""
import numpy as np

LOG2_E = 1.4426950408889634


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def sorted_rows(codes):
    return np.argsort(codes, kind='stable')


def whole_weights(probability):
    """2^32 p in whole numbers, at least 1."""
    return [max(1, int(2.0 ** 32 * float(p) + 0.5)) for p in probability]


def sampled_systematically(probability, order, samples, uniform):
    """Keys on a line in the order of their hashes, and points on it as far apart as the line is long over the samples;
    a key as long as that is certain and leaves the line."""
    weight, certain = whole_weights(probability), set()
    samples = left = min(samples, len(weight))
    while left:
        total = sum(w for j, w in enumerate(weight) if j not in certain)
        found = {j for j, w in enumerate(weight) if j not in certain and w * left >= total}
        if not found:
            break
        certain |= found
        left -= len(found)
    points = [total * uniform // 2 ** 32 + i * total for i in range(left)]
    keys, weights, at = [], [], 0
    for key in (int(key) for key in order):
        if key in certain:
            keys.append(key)
            weights.append(0)
            continue
        length = weight[key] * left
        if any(at <= point < at + length for point in points):
            keys.append(key)
            weights.append(-np.log2(length / total))
        at += length
    assert len(keys) == samples
    return keys, weights


def sampled_with_replacement(probability, uniforms):
    upto = np.cumsum(np.array(whole_weights(probability), dtype=object))
    total = int(upto[-1])
    keys = [next(j for j, sum_to_here in enumerate(upto) if sum_to_here > total * int(u) // 2 ** 32) for u in uniforms]
    shares = [(upto[j] - (upto[j - 1] if j else 0)) / total for j in keys]
    return keys, [-np.log2(len(keys) * share) for share in shares]


class Reference:
    """KDEformer's steps for the numbers of a call."""

    def __init__(self, call):
        self.call = call
        self.q, self.k, self.v = (x[0].transpose(1, 0, 2).astype(np.float64) for x in (call.q, call.k, call.v))
        self.blocks = -(-call.KEYS // call.BUCKET)
        self.rows = -(-call.QUERIES // self.blocks)
        borders = [min(call.QUERIES, group * self.blocks // call.GROUPS * self.rows)
                   for group in range(call.GROUPS + 1)]
        self.groups = [range(*ends) for ends in zip(borders, borders[1:])]

    def codes(self, name):
        products = getattr(self, name) @ self.call.projection.astype(np.float64)
        assert np.abs(products).min() > 1e-4, 'a sign that float32 may see otherwise'
        words = (products > 0) @ (1 << np.arange(self.call.PROJECTIONS))
        gray = [i ^ i >> 1 for i in range(1 << self.call.PROJECTIONS)]
        return np.argsort(gray)[words]

    def order(self, name):
        return np.array([sorted_rows(codes) for codes in self.codes(name)])

    def pilots(self):
        """log2 of each pilot's sum of exponentials, and of the sums over pilots of each key's squared weights."""
        call, order = self.call, self.order('q')
        sums, squares = np.zeros((2, call.GROUPS, call.PILOTS)), np.zeros((2, call.GROUPS, call.KEYS))
        for unit in range(2):
            for g, group in enumerate(self.groups):
                uniforms = call.pilot_uniform[unit, g]
                rows = [order[unit, group.start + ((i << 32 | int(u)) // call.PILOTS * len(group) >> 32)]
                        for i, u in enumerate(uniforms)]
                scores = self.q[unit, rows] @ self.k[unit].T * call.SCALE
                sums[unit, g] = np.log2(np.exp(scores).sum(1))
                squares[unit, g] = np.log2((softmax(scores) ** 2).sum(0))
        return sums, squares

    def mean(self):
        return self.v.mean(1)

    def distances(self):
        return np.linalg.norm(self.v - self.mean()[:, None], axis=2)

    def pilot_probability(self):
        wanted = 2 ** (self.pilots()[1] / 2) * self.distances()[:, None]
        return 0.7 * wanted / wanted.sum(2, keepdims=True) + 0.3 / self.call.KEYS

    def gram(self):
        """W^T W of W = [V, 1], and the lengths of W's rows."""
        w = np.concatenate([self.v, np.ones((2, self.call.KEYS, 1))], 2)
        return w.transpose(0, 2, 1) @ w, np.linalg.norm(w, axis=2)

    def value_probability(self):
        gram, lengths = self.gram()
        wanted = lengths / np.linalg.norm(gram, 2, (1, 2))[:, None] ** 0.5 + 1 / self.call.KEYS
        return np.repeat((wanted / wanted.sum(1, keepdims=True))[:, None], self.call.GROUPS, 1)

    def attention(self, sample_key, sample_weight):
        """Each query over the keys of its block and the samples of its group that are outside of it."""
        call, out = self.call, np.zeros((1, self.call.QUERIES, 2, self.call.WIDTH))
        q_order, k_order = self.order('q'), self.order('k')
        for unit in range(2):
            position = np.argsort(k_order[unit])
            for g, group in enumerate(self.groups):
                keys, weights = sample_key[unit * call.GROUPS + g], sample_weight[unit * call.GROUPS + g]
                for place in group:
                    block = place // self.rows
                    own = k_order[unit, block * call.BUCKET:(block + 1) * call.BUCKET]
                    outside = position[keys] // call.BUCKET != block
                    rows = np.concatenate([own, keys[outside]]).astype(int)
                    log_weight = np.concatenate([np.zeros(len(own)), weights[outside] / LOG2_E])
                    row = q_order[unit, place]
                    scores = self.k[unit, rows] @ self.q[unit, row] * call.SCALE + log_weight
                    out[0, row, unit] = softmax(scores) @ self.v[unit, rows]
        return out
