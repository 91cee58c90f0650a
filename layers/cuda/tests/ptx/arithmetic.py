"""Types, arithmetic, moving and converting: instructions that threads run each for itself."""
import numpy as np

TYPES = {'pred': bool, 'u8': np.uint8, 'u16': np.uint16, 'u32': np.uint32, 'u64': np.uint64, 's8': np.int8,
         's16': np.int16, 's32': np.int32, 's64': np.int64, 'b8': np.uint8, 'b16': np.uint16, 'b32': np.uint32,
         'b64': np.uint64, 'f16': np.float16, 'f32': np.float32, 'f64': np.float64}
# what may stand in a name without a meaning of its own here; the rest is each function's to know
MEANINGLESS = {'rn', 'ftz', 'approx', 'full', 'uni', 'sync', 'aligned', 'lo', 'nc', 'relaxed', 'volatile', 'to'}


class PtxError(Exception):
    pass


def bits_of(kind):
    return int(kind[1:])


def wide(kind):
    return kind[0] + str(2 * bits_of(kind))


def check_parts(instruction, *known):
    for part in instruction.parts:
        if part not in TYPES and part not in MEANINGLESS and part not in known:
            raise PtxError(f'unknown .{part}')


# ---- arithmetic ----

def shift_left(x, count):
    bits = 8 * x.dtype.itemsize
    return np.where(count < bits, x << np.minimum(count, bits - 1).astype(x.dtype), 0).astype(x.dtype)


def shift_right(x, count):
    bits = 8 * x.dtype.itemsize
    shifted = x >> np.minimum(count, bits - 1).astype(x.dtype)
    return shifted if x.dtype.kind == 'i' else np.where(count < bits, shifted, 0).astype(x.dtype)


def divide(x, y):
    if x.dtype.kind == 'f':
        return x / y
    if (y == 0).any():
        raise PtxError('a division by 0')
    if x.dtype.kind == 'u':
        return x // y
    quotient = np.abs(x) // np.abs(y)
    return np.where((x < 0) != (y < 0), -quotient, quotient).astype(x.dtype)


def remainder(x, y):
    return (x - divide(x, y) * y).astype(x.dtype)


def high_product(x, y):
    bits = 8 * x.dtype.itemsize
    exact = x.astype(object) * y.astype(object)
    return np.asarray(exact >> bits).astype(x.dtype)


def minimum(x, y):
    return np.fmin(x, y) if x.dtype.kind == 'f' else np.minimum(x, y)


def maximum(x, y):
    return np.fmax(x, y) if x.dtype.kind == 'f' else np.maximum(x, y)


def population(x):
    return np.unpackbits(np.atleast_1d(x).reshape(-1, 1).view(np.uint8), axis=1).sum(1).astype(np.uint32)


def fused(x, y, z):
    """One rounding of float32; of float64 nearly so."""
    more = np.float64 if x.dtype == np.float32 else np.longdouble
    return (x.astype(more) * y.astype(more) + z.astype(more)).astype(x.dtype)


def reciprocal(x):
    return (1 / x).astype(x.dtype)


BINARY = {'add': np.add, 'sub': np.subtract, 'and': np.bitwise_and, 'or': np.bitwise_or, 'xor': np.bitwise_xor,
          'min': minimum, 'max': maximum, 'div': divide, 'rem': remainder}
UNARY = {'not': np.invert, 'neg': np.negative, 'abs': np.abs, 'popc': population, 'ex2': np.exp2, 'rcp': reciprocal,
         'sqrt': np.sqrt, 'lg2': np.log2}
SHIFTS = {'shl': shift_left, 'shr': shift_right}


def unary(block, instruction, who):
    check_parts(instruction)
    kind = instruction.parts[-1]
    if kind == 'pred':
        block.put(instruction.operands[0], ~block.predicate(instruction.operands[1], who), who)
        return
    x = block.get(instruction.operands[1], kind, who)
    block.put(instruction.operands[0], UNARY[instruction.name](x), who)


def binary(block, instruction, who):
    check_parts(instruction)
    to, *operands = instruction.operands
    kind = instruction.parts[-1]
    if kind == 'pred':
        values = [block.predicate(operand, who) for operand in operands]
    else:
        values = [block.get(operand, kind, who) for operand in operands]
    block.put(to, BINARY[instruction.name](*values), who)


def shift(block, instruction, who):
    check_parts(instruction)
    to, x, count = instruction.operands
    kind = instruction.parts[-1]
    block.put(to, SHIFTS[instruction.name](block.get(x, kind, who), block.get(count, 'u32', who)), who)


def multiply(block, instruction, who):
    check_parts(instruction, 'wide', 'hi')
    to, x, y, *z = instruction.operands
    kind = instruction.parts[-1]
    x, y = block.get(x, kind, who), block.get(y, kind, who)
    if 'wide' in instruction.parts:
        kind = wide(kind)
        x, y = x.astype(TYPES[kind]), y.astype(TYPES[kind])
    product = high_product(x, y) if 'hi' in instruction.parts else x * y
    block.put(to, product + block.get(z[0], kind, who) if z else product, who)


def multiply_add(block, instruction, who):
    check_parts(instruction)
    to, *operands = instruction.operands
    block.put(to, fused(*(block.get(operand, instruction.parts[-1], who) for operand in operands)), who)


def insert_bits(block, instruction, who):
    to, *operands = instruction.operands
    kind = instruction.parts[-1]
    x, y = (block.get(operand, kind, who) for operand in operands[:2])
    place, count = (int(block.get(operand, 'u32', who)) for operand in operands[2:])
    dtype = TYPES[kind]
    mask = dtype((1 << count) - 1 << place)
    block.put(to, y & ~mask | x << dtype(place) & mask, who)


def compare(block, instruction, who):
    how, kind = instruction.parts[0], instruction.parts[-1]
    check_parts(instruction, how, 'and', 'or', 'xor')
    to, x, y, *other = instruction.operands
    x, y = block.get(x, kind, who), block.get(y, kind, who)
    unordered = len(how) == 3 and how != 'num' and how[-1] == 'u'
    functions = {'eq': np.equal, 'ne': np.not_equal, 'lt': np.less, 'le': np.less_equal, 'gt': np.greater,
                 'ge': np.greater_equal, 'lo': np.less, 'ls': np.less_equal, 'hi': np.greater, 'hs': np.greater_equal}
    result = functions[how[:2] if unordered else how](x, y)
    if kind[0] == 'f':
        nan = np.isnan(x) | np.isnan(y)
        result = result | nan if unordered else result & ~nan
    if len(instruction.parts) > 2 and instruction.parts[1] in ('and', 'or', 'xor'):
        result = BINARY[instruction.parts[1]](result, block.predicate(other[0], who))
    block.put(to, result, who)


def select(block, instruction, who):
    to, x, y, which = instruction.operands
    kind = instruction.parts[-1]
    chosen = np.where(block.predicate(which, who), block.get(x, kind, who), block.get(y, kind, who))
    block.put(to, chosen.astype(TYPES[kind]), who)


# ---- moving and converting ----

def move(block, instruction, who):
    to, value = instruction.operands
    kind = instruction.parts[-1]
    if kind == 'pred':
        block.put(to, block.predicate(value, who), who)
    elif value[0] == 'vector':
        part = 'b%d' % (bits_of(kind) // len(value[1]))
        whole = TYPES['b' + kind[1:]](0)
        for i, operand in enumerate(value[1]):
            whole = whole | block.get(operand, part, who).astype(whole.dtype) << whole.dtype.type(i * bits_of(part))
        block.put(to, whole, who)
    elif to[0] == 'vector':
        part = 'b%d' % (bits_of(kind) // len(to[1]))
        whole = block.get(value, 'b' + kind[1:], who)
        for i, operand in enumerate(to[1]):
            block.put(operand, (whole >> whole.dtype.type(i * bits_of(part))).astype(TYPES[part]), who)
    else:
        block.put(to, block.get(value, kind, who), who)


def to_bfloat16(x):
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)) >> np.uint32(16)
    return np.where(np.isnan(x), 0x7FFF, rounded).astype(np.uint16)


def from_bfloat16(bits):
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_half(x, kind):
    return to_bfloat16(x) if kind == 'bf16' else x.astype(np.float16).view(np.uint16)


def from_half(bits, kind):
    return from_bfloat16(bits) if kind == 'bf16' else bits.view(np.float16).astype(np.float32)


def convert(block, instruction, who):
    to_whole = {'rzi': np.trunc, 'rni': np.rint, 'rmi': np.floor, 'rpi': np.ceil}
    check_parts(instruction, *to_whole, 'bf16', 'bf16x2', 'f16x2')
    to, *operands = instruction.operands
    target, source = instruction.parts[-2:]
    if target in ('f16x2', 'bf16x2'):
        high, low = (to_half(block.get(operand, 'f32', who), target[:-2]).astype(np.uint32) for operand in operands)
        block.put(to, high << np.uint32(16) | low, who)
        return
    if source == 'bf16':
        x = from_bfloat16(block.get(operands[0], 'b16', who))
    else:
        x = block.get(operands[0], source, who)
    if target == 'bf16':
        block.put(to, to_bfloat16(x.astype(np.float32)), who)
        return
    dtype = np.dtype(TYPES[target])
    if x.dtype.kind == 'f' and dtype.kind != 'f':
        limits = np.iinfo(dtype)
        x = to_whole[instruction.parts[0]](x)
        inside = np.where(np.isnan(x) | (x < limits.min) | (x >= float(limits.max)), 0, x).astype(dtype)
        x = np.where(x >= float(limits.max), limits.max, np.where(x < limits.min, limits.min, inside))
    elif x.dtype.kind == 'f' and to_whole.get(instruction.parts[0]):
        x = to_whole[instruction.parts[0]](x)
    block.put(to, np.asarray(x).astype(dtype), who)


def convert_address(block, instruction, who):
    to, value = instruction.operands
    address = block.get(value, instruction.parts[-1], who)
    if 'shared' in instruction.parts:
        window = address.dtype.type(1 << 40)
        address = address - window if 'to' in instruction.parts else address + window
    elif 'global' not in instruction.parts:
        raise PtxError('unknown space')
    block.put(to, address, who)


TABLE = {**dict.fromkeys(UNARY, unary), **dict.fromkeys(BINARY, binary), **dict.fromkeys(SHIFTS, shift),
         'mul': multiply, 'mad': multiply, 'fma': multiply_add, 'bfi': insert_bits, 'setp': compare, 'selp': select,
         'mov': move, 'cvt': convert, 'cvta': convert_address}
