"""What the instructions do: TABLE has a function of (block, instruction, threads) by the first part of the name. Here
those of memory, barriers, warps and tensor cores, the others in arithmetic.py."""
import numpy as np

import arithmetic
from arithmetic import PtxError, TYPES, check_parts, from_half


# ---- memory ----

def operands_of(operand):
    return operand[1] if operand[0] == 'vector' else [operand]


def load(block, instruction, who):
    check_parts(instruction, 'param', 'global', 'shared', 'v2', 'v4')
    to, where = instruction.operands
    kind, registers = instruction.parts[-1], operands_of(to)
    dtype = np.dtype(TYPES[kind])
    if 'param' in instruction.parts:
        first = block.address(where, who)[0]
        for i, value in enumerate(np.frombuffer(block.parameters, dtype, len(registers), first)):
            block.put(registers[i], np.array(value), who)
        return
    memory, address = block.memory_at(instruction.parts, block.address(where, who))
    memory.offsets(address, dtype.itemsize * len(registers))
    values = [memory.load(address + i * dtype.itemsize, dtype) for i in range(len(registers))]
    for register, value in zip(registers, values):
        block.put(register, value, who)


def store(block, instruction, who):
    check_parts(instruction, 'global', 'shared', 'v2', 'v4')
    where, value = instruction.operands
    kind, registers = instruction.parts[-1], operands_of(value)
    dtype = np.dtype(TYPES[kind])
    memory, address = block.memory_at(instruction.parts, block.address(where, who))
    memory.offsets(address, dtype.itemsize * len(registers))
    for i, register in enumerate(registers):
        memory.store(address + i * dtype.itemsize, block.get(register, kind, who), dtype)


def add_atomically(block, instruction, who):
    check_parts(instruction, 'global', 'shared', 'add')
    to, where, value = instruction.operands if instruction.name == 'atom' else (None, *instruction.operands)
    kind = instruction.parts[-1]
    memory, addresses = block.memory_at(instruction.parts, block.address(where, who))
    values = np.broadcast_to(block.get(value, kind, who), addresses.shape)
    before = np.empty(addresses.shape, TYPES[kind])
    for i in range(addresses.size):
        before[i] = memory.load(addresses[i:i + 1], TYPES[kind])[0]
        memory.store(addresses[i:i + 1], before[i] + values[i], TYPES[kind])
    if to is not None:
        block.put(to, before, who)


# ---- barriers and warps ----

def barrier(block, instruction, who):
    if 'warp' in instruction.parts:
        block.lanes(who, block.get(instruction.operands[0], 'u32', who))
    else:
        block.waiting[who] = True


def of_warps(block, operand, kind, who, warps):
    return np.broadcast_to(block.get(operand, kind, who), warps.size).reshape(warps.shape)


def shuffle(block, instruction, who):
    to, value, by, limits, mask = instruction.operands
    warps = block.lanes(who, block.get(mask, 'u32', who))
    x, by, limits = (of_warps(block, operand, 'u32', who, warps) for operand in (value, by, limits))
    by, segment, clamp = by.astype(np.int64), limits.astype(np.int64) >> 8 & 31, limits.astype(np.int64) & 31
    lane = np.arange(32)
    low, high = lane & segment, lane & segment | clamp & ~segment
    sources = {'up': lane - by, 'down': lane + by, 'bfly': lane ^ by, 'idx': low | by & ~segment}
    source = sources[instruction.parts[1]]
    inside = source >= high if instruction.parts[1] == 'up' else source <= high
    source = np.where(inside, source, lane)
    results = operands_of(to)
    block.put(results[0], np.take_along_axis(x, source, 1).reshape(-1), who)
    if len(results) > 1:
        block.put(results[1], np.broadcast_to(inside, source.shape).reshape(-1), who)


def match(block, instruction, who):
    if instruction.parts[0] != 'any':
        raise PtxError('unknown match')
    to, value, mask = instruction.operands
    warps = block.lanes(who, block.get(mask, 'u32', who))
    x = of_warps(block, value, instruction.parts[-1], who, warps)
    same = (x[:, :, None] == x[:, None, :]).astype(np.uint64) << np.arange(32, dtype=np.uint64)
    block.put(to, same.sum(2).astype(np.uint32).reshape(-1), who)


# ---- tensor cores: matrices across a warp by the strides of lanes and of a lane's numbers, columns first ----

def places(of_lane, of_group, of_bits):
    """Index of each number of each lane: lane 4 g + t is at of_lane t + of_group g, bit i of a number adds of_bits[i]."""
    lane = np.arange(32)
    return [lane % 4 * of_lane + lane // 4 * of_group + sum(step for i, step in enumerate(of_bits) if number >> i & 1)
            for number in range(1 << len(of_bits))]


FACTOR_A = {'m16n8k16': places(32, 1, (16, 8, 128)), 'm16n8k8': places(32, 1, (16, 8))}
FACTOR_B = {'m16n8k16': places(16, 1, (8, 64)), 'm16n8k8': places(16, 1, (8,))}
SUM = places(32, 1, (16, 8))


def product(block, instruction, who):
    shape, *rest = instruction.parts[2:]
    kind = rest[3] if len(rest) > 3 else ''
    if shape not in FACTOR_A or rest != ['row', 'col', 'f32', kind, kind, 'f32'] or kind not in ('f16', 'bf16'):
        raise PtxError('unknown shape or types')
    to, a, b, c = (operands_of(operand) for operand in instruction.operands)
    depth = int(shape.split('k')[1])
    warps = block.lanes(who, 0xFFFFFFFF)

    def matrix(rows, columns, where, registers):
        numbers = []
        for register in registers:
            pair = of_warps(block, register, 'b32', who, warps)
            for high in (0, 16):
                numbers.append(from_half((pair >> np.uint32(high)).astype(np.uint16), kind).astype(np.float64))
        made = np.zeros((len(warps), rows * columns))
        for place, number in zip(where, numbers, strict=True):
            made[:, place] = number
        return made.reshape(-1, columns, rows).transpose(0, 2, 1)

    total = matrix(16, depth, FACTOR_A[shape], a) @ matrix(8, depth, FACTOR_B[shape], b).transpose(0, 2, 1)
    total = total.transpose(0, 2, 1).reshape(-1, 128)
    for place, register, result in zip(SUM, c, to, strict=True):
        before = of_warps(block, register, 'f32', who, warps)
        block.put(result, (total[:, place] + before).astype(np.float32).reshape(-1), who)


def load_matrices(block, instruction, who):
    if instruction.parts[:4] != ['sync', 'aligned', 'm8n8', 'x4'] or 'shared' not in instruction.parts:
        raise PtxError('unknown shape')
    to, where = instruction.operands
    warps = block.lanes(who, 0xFFFFFFFF)
    address = block.address(where, who)
    if (address % 16).any():
        raise PtxError('a misaligned row')
    rows = np.stack([block.shared.load(address + 2 * i, np.uint16) for i in range(8)], 1).reshape(-1, 4, 8, 8)
    if 'trans' in instruction.parts:
        rows = rows.transpose(0, 1, 3, 2)
    for i, register in enumerate(operands_of(to)):
        block.put(register, np.ascontiguousarray(rows[:, i]).view(np.uint32).reshape(-1), who)


TABLE = {**arithmetic.TABLE, 'ld': load, 'st': store, 'atom': add_atomically, 'red': add_atomically, 'bar': barrier,
         'barrier': barrier, 'shfl': shuffle, 'match': match, 'mma': product, 'ldmatrix': load_matrices,
         'bra': None, 'ret': None, 'exit': None}
