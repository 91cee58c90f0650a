"""The sort, exact attention and KDEformer's kernels as PTX of one architecture, run by interpreter.py and compared with
their definitions (references.py); then the same with faults in the PTX, which must be noticed.

    kernels.py NVCC ARCHITECTURE    for example nvcc 80; exits 1 where a kernel or a missed fault is wrong

Tensor cores of sm_75 take other instructions than those since sm_80, whose PTX is the same up to sm_90.
"""
import os
import re
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    sys.exit('the PTX of kernels is run with NumPy: install python3-numpy')

from arithmetic import PtxError
from interpreter import Device
from references import Reference, sampled_systematically, sampled_with_replacement, softmax, sorted_rows
from structures import (Blocks, ColumnSquares, Draw, Exact, KdeMemory, KdeSizes, PilotSums, Pilots, Rows, number_int)

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', '..', '..')
LOG2_E = 1.4426950408889634
SHARED = 48 << 10   # of attend: more than it takes


def compile_kernels(nvcc, architecture, names):
    """The PTX of layers/cuda/NAME.cu by name."""
    with tempfile.TemporaryDirectory() as folder:
        def start(name):
            return subprocess.Popen([nvcc, '-std=c++17', '-O3', f'-arch=compute_{architecture}', '-ptx', '-I', ROOT,
                                     os.path.join(ROOT, 'layers', 'cuda', name + '.cu'), '-o',
                                     os.path.join(folder, name)])
        for pair in (names[i:i + 2] for i in range(0, len(names), 2)):
            for process in [start(name) for name in pair]:
                if process.wait():
                    sys.exit(f'{nvcc} does not compile')
        return {name: open(os.path.join(folder, name)).read() for name in names}


class Difference(Exception):
    pass


def expect_equal(what, found, wanted):
    if not np.array_equal(found, wanted):
        raise Difference(f'{what}: {np.count_nonzero(found != wanted)} of {np.size(wanted)} differ')


def expect_close(what, found, wanted, tolerance):
    error = np.sqrt(np.sum((found.astype(np.float64) - wanted) ** 2) / np.sum(np.square(wanted)))
    if not error <= tolerance:
        raise Difference(f'{what}: off by {error:.1e}')


def rows_of(device, x):
    """x [images, tokens, heads, dim] on the device."""
    images, tokens, heads, dim = x.shape
    return Rows(device.put(x), tokens * heads * dim, dim, heads * dim, heads)


def kernels_named(text, pattern):
    """Those that can run: where the device is refused, bfloat16 is a trap."""
    names = re.findall(r'\.entry\s+(\w*%s\w*)\s*\(' % pattern, text)
    return [name for name in names if 'mma.sync.aligned.m16n8k8.' not in text or 'bfloat16' not in name]


def plain(kernel):
    """Of a template over sources, and a half precision."""
    template, half, source = re.match(r'_Z\d+(attend\w*?)I(?:\d+(__\w+?)(?=N\d))?.*\d(Exact|Blocks)E', kernel).groups()
    return f'{template}<{half}, {source}>' if half else f'{template}<{source}>'


# ---- the sort ----

def check_sort(text, seed=None, sizes=(1, 31, 257, 700)):
    for count in sizes:
        random = np.random.default_rng(count)
        code = random.choice(random.integers(0, 1 << 16, 40), (2, count)).astype(np.uint16)
        device = Device(text)
        codes, other, order = device.put(code), device.empty(code.shape, 'u4'), device.empty(code.shape, 'u4')
        for shift, before, after in ((0, 0, other), (8, other, order)):
            device.launch('sort_by_digit', (2,), 256, 8224, codes, number_int(count), number_int(shift), before, after,
                          seed=seed)
        wanted = [sorted_rows(codes_of_list) for codes_of_list in code]
        expect_equal(f'order of {count} rows', device.get(order, code.shape, 'u4'), wanted)


# ---- exact attention ----

def check_exact(text, seed=None, sizes=((1, 2, 70, 45, 12, 20), (1, 1, 33, 65, 72, 70))):
    for images, heads, queries, keys, dim, width in sizes:
        random = np.random.default_rng(queries)
        q, k, v = (random.standard_normal(shape).astype(np.float32) for shape in
                   ((images, queries, heads, dim), (images, keys, heads, dim), (images, keys, heads, width)))
        scores = np.einsum('iqhd,ikhd->ihqk', q.astype(np.float64), k) * 0.3
        wanted = np.einsum('ihqk,ikhd->iqhd', softmax(scores), v)
        for kernel in kernels_named(text, r'attend\w*Exact'):
            device = Device(text)
            out = device.put(np.full((images, queries, heads, width), np.nan, np.float32))
            source = Exact(rows_of(device, q), rows_of(device, k), rows_of(device, v), out, queries * heads * width,
                           width, heads * width, heads, queries, keys, dim, width, 0.3 * LOG2_E)
            device.launch(kernel, ((queries + 63) // 64, images * heads, (width + 63) // 64), 128, SHARED, source,
                          seed=seed)
            tolerance = 1e-2 if 'bfloat16' in kernel else 1.5e-3 if 'half' in kernel else 1e-6
            expect_close(plain(kernel), device.get(out, wanted.shape, 'f4'), wanted, tolerance)


# ---- KDEformer, kernel by kernel in its own order on one device ----

class Kde:
    """One call: two heads, numbers that blocks, groups and warps do not divide."""

    QUERIES, KEYS, DIM, WIDTH, HEADS = 90, 75, 12, 20, 2
    PROJECTIONS, BUCKET, GROUPS, SAMPLES, PILOTS, SCALE = 5, 16, 2, 25, 6, 0.4

    def __init__(self, texts, seed):
        random = np.random.default_rng(3)
        normal = lambda *shape: random.standard_normal(shape).astype(np.float32)
        self.q, self.k = normal(1, self.QUERIES, 2, self.DIM), normal(1, self.KEYS, 2, self.DIM)
        self.v, self.projection = normal(1, self.KEYS, 2, self.WIDTH), normal(2, self.DIM, self.PROJECTIONS)
        self.v[0, 7] *= 40  # keys that are always sampled
        self.sample_uniform = random.integers(0, 1 << 32, (2, self.GROUPS, self.SAMPLES)).astype(np.uint32)
        self.pilot_uniform = random.integers(0, 1 << 32, (2, self.GROUPS, self.PILOTS)).astype(np.uint32)
        self.reference = Reference(self)
        self.device, self.texts, self.seed = Device(''), texts, seed
        d, units, lists = self.device, 2, 2 * self.GROUPS
        self.shapes = {
            'q_code': ((units, self.QUERIES), 'u2'), 'k_code': ((units, self.KEYS), 'u2'),
            'q_order': ((units, self.QUERIES), 'u4'), 'k_order': ((units, self.KEYS), 'u4'),
            'other': ((units, self.QUERIES), 'u4'), 'k_position': ((units, self.KEYS), 'u4'),
            'pilot_sum': ((units, self.GROUPS, self.PILOTS), 'f4'),
            'column': ((units, self.GROUPS, self.KEYS), 'f4'), 'mean': ((units, self.WIDTH), 'f4'),
            'gram': ((units, self.WIDTH + 1, self.WIDTH + 1), 'f8'), 'vectors': ((units, 41, self.WIDTH + 1), 'f8'),
            'norm': ((units,), 'f4'), 'length': ((units, self.KEYS), 'f4'),
            'probability': ((units, self.GROUPS, self.KEYS), 'f4'), 'weight': ((units, self.GROUPS, self.KEYS), 'u8'),
            'sample_key': ((lists, self.SAMPLES), 'u4'), 'sample_weight': ((lists, self.SAMPLES), 'f4'),
            'taken': ((lists,), 'i4')}
        self.memory = KdeMemory(projection=d.put(self.projection), sample_uniform=d.put(self.sample_uniform),
                                pilot_uniform=d.put(self.pilot_uniform),
                                **{name: d.empty(*shape) for name, shape in self.shapes.items()})
        self.rows = {name: rows_of(d, getattr(self, name)) for name in 'qkv'}
        blocks = -(-self.KEYS // self.BUCKET)
        self.sizes = KdeSizes(self.QUERIES, self.KEYS, self.DIM, self.WIDTH, self.PROJECTIONS, self.BUCKET, blocks,
                              -(-self.QUERIES // blocks), self.GROUPS, self.SAMPLES, self.PILOTS)

    def launch(self, file, kernel, grid, threads, shared, *arguments):
        self.device.text = self.texts[file]
        self.device.launch(kernel, grid, threads, shared, *arguments, seed=self.seed)

    def found(self, name):
        return self.device.get(getattr(self.memory, name), *self.shapes[name])

    def at(self, name):
        return getattr(self.memory, name) or 0

    def order(self):
        for rows, count, name in (('q', self.QUERIES, 'q'), ('k', self.KEYS, 'k')):
            code, order = self.at(name + '_code'), self.at(name + '_order')
            self.launch('kde_order', 'hash_rows', (-(-count // 4), 2), 128, 0, self.rows[rows], number_int(count),
                        number_int(self.DIM), self.at('projection'), number_int(self.PROJECTIONS), code)
            expect_equal(f'hash_rows of {name}', self.found(name + '_code'), self.reference.codes(name))
            self.launch('sort_codes', 'sort_by_digit', (2,), 256, 8224, code, number_int(count), number_int(0), 0,
                        order)
            expect_equal(f'order of {name}', self.found(name + '_order'), self.reference.order(name))
        self.launch('kde_order', 'find_positions', (1, 2), 128, 0, self.at('k_order'), number_int(self.KEYS),
                    self.at('k_position'))
        expect_equal('find_positions', self.found('k_position'), np.argsort(self.reference.order('k'), axis=1))

    def pilot_probability(self):
        pilots = Pilots(self.rows['q'], self.sizes, self.at('q_order'), self.at('pilot_uniform'))
        sums, squares = self.reference.pilots()
        scale = self.SCALE * LOG2_E
        self.launch('kde_probability', r'6attendI.*PilotSums', (self.GROUPS, 2), 128, SHARED,
                    PilotSums(pilots, self.rows['k'], self.at('pilot_sum'), 1, self.DIM, 0, scale))
        expect_close('attend<PilotSums>', self.found('pilot_sum'), sums, 1e-6)
        self.launch('kde_probability', r'6attendI.*ColumnSquares', (self.GROUPS * 2, 2), 128, SHARED,
                    ColumnSquares(pilots, self.rows['k'], self.at('pilot_sum'), self.at('column'), 2, self.DIM, 0,
                                  scale))
        expect_close('attend<ColumnSquares>', self.found('column'), squares, 1e-6)
        self.launch('exact_attention', 'mean_of_values', (self.WIDTH, 2), 256, 32, self.rows['v'], self.at('mean'),
                    2 * self.WIDTH, self.WIDTH, self.WIDTH, number_int(1), number_int(self.KEYS))
        expect_close('mean_of_values', self.found('mean'), self.reference.mean(), 1e-6)
        self.launch('kde_probability', 'distances', (-(-self.KEYS // 8), 2), 256, 0, self.rows['v'],
                    number_int(self.KEYS), number_int(self.WIDTH), self.at('mean'), self.at('length'))
        expect_close('distances', self.found('length'), self.reference.distances(), 1e-6)
        self.probability(0, self.reference.pilot_probability())

    def value_probability(self):
        keys, width = number_int(self.KEYS), number_int(self.WIDTH)
        gram, lengths = self.reference.gram()
        self.launch('kde_norm', 'make_gram', (self.WIDTH + 1, 2), 128, 0, self.rows['v'], keys, width, self.at('gram'))
        expect_close('make_gram', self.found('gram'), gram, 1e-6)
        self.launch('kde_norm', 'find_norm', (2,), 128, 672, self.at('gram'), number_int(self.WIDTH + 1),
                    self.at('vectors'), self.at('norm'))
        expect_close('find_norm', self.found('norm'), np.linalg.norm(gram, 2, (1, 2)) ** 0.5, 1e-6)
        self.launch('kde_norm', 'row_lengths', (-(-self.KEYS // 4), 2), 128, 0, self.rows['v'], keys, width,
                    self.at('length'))
        expect_close('row_lengths', self.found('length'), lengths, 1e-6)
        self.probability(1, self.reference.value_probability())

    def probability(self, rule, wanted):
        self.launch('kde_probability', r'make_probabilitiesILi%d' % rule, (2 * self.GROUPS,), 256, 64, self.sizes,
                    self.at('column'), self.at('length'), self.at('norm'), self.at('probability'))
        expect_close(f'make_probabilities<{rule}>', self.found('probability'), wanted, 2e-6)

    def draws(self, kernel):
        self.launch('kde_samples', kernel, (2 * self.GROUPS,), 256, 64,
                    Draw(self.sizes, *(self.at(name) for name in ('probability', 'weight', 'k_order', 'sample_uniform',
                                                                  'sample_key', 'sample_weight', 'taken'))))
        probability, order = self.found('probability').reshape(-1, self.KEYS), self.found('k_order')
        for number in range(2 * self.GROUPS):
            unit, group = divmod(number, self.GROUPS)
            if kernel == 'draw_systematic':
                uniform = int(self.sample_uniform.reshape(-1)[unit]) + (group << 32) // self.GROUPS & 0xFFFFFFFF
                keys, weights = sampled_systematically(probability[number], order[unit], self.SAMPLES, uniform)
                assert 0 in weights and np.any(weights), 'keys that are certain, and others'
            else:
                keys, weights = sampled_with_replacement(probability[number], self.sample_uniform[unit, group])
            expect_equal(f'{kernel}: keys', self.found('sample_key')[number], keys)
            expect_equal(f'{kernel}: how many', self.found('taken')[number], len(keys))
            error = np.abs(self.found('sample_weight')[number] - weights).max()
            if not error < 1e-5:
                raise Difference(f'{kernel}: weights are off by {error:.1e}')

    def attention(self):
        wanted = self.reference.attention(self.found('sample_key'), self.found('sample_weight'))
        for kernel in kernels_named(self.texts['kde_attention'], r'attend\w*Blocks'):
            out = self.device.put(np.full((1, self.QUERIES, 2, self.WIDTH), np.nan, np.float32))
            self.launch('kde_attention', kernel, (self.GROUPS, 2, 1), 128, SHARED,
                        Blocks(*(self.rows[name] for name in 'qkv'), self.sizes, self.memory, out,
                               self.QUERIES * 2 * self.WIDTH, self.WIDTH, 2 * self.WIDTH, 2, 1, self.DIM, self.WIDTH,
                               self.SCALE * LOG2_E))
            tolerance = 1e-2 if 'bfloat16' in kernel else 2e-3 if 'half' in kernel else 2e-6
            expect_close(plain(kernel), self.device.get(out, wanted.shape, 'f4'), wanted, tolerance)


def check_kde(texts, seed=None):
    kde = Kde(texts, seed)
    kde.order()
    kde.value_probability()
    kde.draws('draw_multinomial')
    kde.attention()
    kde.probability(2, np.full((2, kde.GROUPS, kde.KEYS), 1 / kde.KEYS))
    kde.pilot_probability()
    kde.draws('draw_systematic')
    kde.attention()


# ---- faults ----

# what is wrong | file | expression, and which of its matches | replacement
FAULTS = (
    ('a barrier is missing', 'sort_codes', r'bar\.sync\s+0;', 1, ''),
    ('a shuffle goes the other way', 'sort_codes', r'shfl\.sync\.up', 0, 'shfl.sync.down'),
    ('a mask is not inverted', 'sort_codes', r'not\.b32', 0, 'mov.b32'),
    ('a barrier is missing', 'exact_attention', r'bar\.sync\s+0;', 1, ''),
    ('a shuffle takes another lane', 'exact_attention', r'shfl\.sync\.bfly', 0, 'shfl.sync.down'),
    ('a product for a quotient', 'exact_attention', r'div\.rn\.f32', 0, 'mul.f32'),
    ('a shuffle goes the other way', 'kde_samples', r'shfl\.sync\.up', 1, 'shfl.sync.down'),
    ('a mask joins otherwise', 'kde_attention', r'xor\.pred', 0, 'or.pred'),
)
# inline PTX that nvcc does not look into
INLINE_FAULTS = (
    ('parts of a factor change places', 'exact_attention',
     r'(mma\.sync\S*\s+\{[^}]*\}, *\{)([^,]*), *([^,}]*)', 0, r'\1\3, \2'),
    ('a factor is not transposed', 'exact_attention', r'\.x4\.trans', 0, '.x4'),
)


def with_fault(text, expression, number, replacement):
    matches = list(re.finditer(expression, text))
    if number >= len(matches):
        return None
    match = matches[number]
    return text[:match.start()] + match.expand(replacement) + text[match.end():]


def notice(texts, file):
    """What is wrong with the kernels of a file, or None."""
    try:
        if file == 'sort_codes':
            check_sort(texts[file], seed=5, sizes=(257,))
        elif file == 'exact_attention':
            check_exact(texts[file], seed=5, sizes=((1, 2, 70, 45, 12, 20),))
        else:
            check_kde(texts)
    except (Difference, PtxError) as problem:
        return problem
    return None


def main():
    nvcc, architecture = sys.argv[1:]
    texts = compile_kernels(nvcc, architecture, ['sort_codes', 'exact_attention', 'kde_order', 'kde_probability',
                                                 'kde_norm', 'kde_samples', 'kde_attention'])
    bad = 0
    for seed in (None, 5):
        for name, check in (('sort', lambda: check_sort(texts['sort_codes'], seed)),
                            ('exact attention', lambda: check_exact(texts['exact_attention'], seed)),
                            ('KDEformer', lambda: check_kde(texts, seed))):
            try:
                check()
            except (Difference, PtxError) as problem:
                print(f'{name}: {problem}')
                bad = 1
    for kernel in {kernel for text in texts.values() for kernel in kernels_named(text, '')} - Device.launched:
        print(f'{kernel} was not run')
        bad = 1
    faults = FAULTS + (INLINE_FAULTS if 'mma.sync' in texts['exact_attention'] else ())
    for what, file, expression, number, replacement in faults:
        faulty = with_fault(texts[file], expression, number, replacement)
        problem = faulty and notice({**texts, file: faulty}, file)
        if not faulty:
            print(f'{file}: nothing to replace, {expression}')
        elif not problem:
            print(f'{file}: NOT NOTICED: {what}, {expression}')
        else:
            print(f'{file}: {what}: {problem}')
        bad |= not problem
    if not bad:
        print(f'{len(Device.launched)} kernels of sm_{architecture} as defined, {len(faults)} faults noticed')
    return bad


if __name__ == '__main__':
    sys.exit(main())
