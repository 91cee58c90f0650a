"""Runs a kernel's PTX as nvcc wrote it: a block at a time, its threads as NumPy vectors, so that inline PTX and what
stands behind __CUDA_ARCH__ runs too, which no emulation of the source sees. What it does not know stops it by name.

Threads that diverged go on from the lowest place in the program. All warps move together or, with a seed, one after
another at random, each as far as its next barrier: a missing barrier then shows.
"""
import numpy as np

from arithmetic import PtxError, TYPES
from program import Kernel

BASE = 1 << 32        # of global addresses
WINDOW = 1 << 40      # of shared memory among generic addresses
MOST_STEPS = 10 ** 6  # of a block, before it counts as one that never ends
POISON = 0xFF         # memory and registers before they are written: NaN, -1


class Memory:
    """Bytes at addresses from `base` on. Only what was allocated may be touched, and only aligned."""

    def __init__(self, base, size, name):
        self.base, self.name = base, name
        self.bytes = np.full(size, POISON, np.uint8)
        self.valid = np.zeros(size, bool)
        self.used = 0

    def allocate(self, size):
        at = self.used
        self.used = (at + size + 511) // 256 * 256  # a gap that nothing may touch
        if at + size > self.bytes.size:
            raise PtxError(f'{self.name} memory is full')
        self.valid[at:at + size] = True
        return self.base + at

    def offsets(self, address, size):
        at = np.asarray(address).astype(np.int64) - self.base
        if (at < 0).any() or (at + size > self.bytes.size).any():
            raise PtxError(f'{size} bytes outside of {self.name} memory')
        if not (self.valid[at].all() and self.valid[at + size - 1].all()):
            raise PtxError(f'{size} bytes of {self.name} memory that nobody allocated')
        if (at % size).any():
            raise PtxError(f'{size} misaligned bytes of {self.name} memory')
        return at

    def view(self, dtype):
        return self.bytes[:self.bytes.size // 16 * 16].view(dtype)

    def load(self, address, dtype):
        size = np.dtype(dtype).itemsize
        return self.view(dtype)[self.offsets(address, size) // size]

    def store(self, address, values, dtype):
        size = np.dtype(dtype).itemsize
        self.view(dtype)[self.offsets(address, size) // size] = values


class Block:
    """One block of threads while it runs: what instructions read and write."""

    def __init__(self, kernel, parameters, memory, threads, block, blocks, shared_bytes, seed):
        self.kernel, self.parameters, self.memory = kernel, parameters, memory
        self.count = threads[0] * threads[1] * threads[2]
        self.shared = Memory(0, (shared_bytes + 31) // 16 * 16, 'shared')
        self.shared.allocate(shared_bytes) if shared_bytes else None
        number = np.arange(self.count)
        self.special = {'%laneid': number % 32}
        for axis, of_axis in zip('xyz', (number % threads[0], number // threads[0] % threads[1],
                                         number // (threads[0] * threads[1]))):
            i = 'xyz'.index(axis)
            self.special['%tid.' + axis] = of_axis
            for name, value in (('%ntid.', threads), ('%ctaid.', block), ('%nctaid.', blocks)):
                self.special[name + axis] = np.full(self.count, value[i])
        self.registers = {}
        self.place = np.zeros(self.count, np.int64)
        self.live, self.waiting = np.ones(self.count, bool), np.zeros(self.count, bool)
        self.steps = 0
        self.random = np.random.default_rng(seed) if seed is not None else None

    # ---- operands: values of the threads `who`, a slice or numbers ----

    def get(self, operand, kind, who):
        dtype = TYPES[kind]
        what = operand[0]
        if what == 'register':
            values = self.register(operand)[who]
            if values.dtype == bool:
                raise PtxError('a predicate as a number')
            if values.dtype.itemsize != np.dtype(dtype).itemsize:
                values = values.astype(TYPES['b%d' % (8 * np.dtype(dtype).itemsize)])
            return values.view(dtype)
        if what == 'special':
            return self.special[operand[1]][who].astype(dtype)
        if what == 'parameter':  # its address among the parameters
            return np.array(self.kernel.parameters[operand[1]][0], dtype)
        if what == 'number':
            if isinstance(operand[1], int):
                bits = 8 * np.dtype(dtype).itemsize
                return np.array(operand[1] & (1 << bits) - 1, TYPES['b%d' % bits]).view(dtype)
            return operand[1].view(dtype)
        raise PtxError(f'a {what} as a number')

    def register(self, operand):
        _, name, dtype = operand
        if name not in self.registers:
            poison = np.full(self.count * np.dtype(dtype).itemsize, POISON, np.uint8)
            self.registers[name] = np.ones(self.count, bool) if dtype is bool else poison.view(dtype)
        return self.registers[name]

    def put(self, operand, values, who):
        """Wider registers take the sign, or zeros."""
        if operand[0] == 'nowhere':
            return
        if operand[0] != 'register':
            raise PtxError(f'a {operand[0]} as a result')
        register = self.register(operand)
        values = np.asarray(values)
        if register.dtype != bool:
            size = register.dtype.itemsize
            if values.dtype.kind == 'f' and values.dtype.itemsize != size:
                raise PtxError('a result of another size than its register')
            if values.dtype.kind == 'i':
                values = values.astype(np.dtype('i%d' % size))
            elif values.dtype.kind == 'u':
                values = values.astype(register.dtype)
            values = values.view(register.dtype)
        elif values.dtype != bool:
            raise PtxError('a number as a predicate')
        register[who] = values

    def predicate(self, operand, who):
        if operand[0] == 'not':
            return ~self.predicate(operand[1], who)
        if operand[0] == 'number':
            return np.array(operand[1] != 0)
        return self.register(operand)[who]

    def address(self, operand, who):
        _, base, offset = operand
        kind = 'u32' if base[0] == 'register' and base[2] is np.uint32 else 'u64'
        address = self.get(base, kind, who).astype(np.int64) + offset
        return address if address.shape else np.full(self.place[who].size, address)

    def memory_at(self, parts, address):
        """Of a generic address all threads must mean the same memory."""
        if 'shared' in parts:
            return self.shared, address
        if 'global' in parts:
            return self.memory, address
        inside = np.asarray(address) >= WINDOW
        if inside.all():
            return self.shared, address - WINDOW
        if inside.any():
            raise PtxError('generic addresses of shared and global memory at once')
        return self.memory, address

    def lanes(self, who, mask):
        """Numbers [warps, 32] of the active threads, which must be whole warps: collectives with fewer are not ours."""
        active = np.arange(self.count)[who]
        if active.size % 32 or (active.reshape(-1, 32) != active[::32, None] // 32 * 32 + np.arange(32)).any():
            raise PtxError('a collective of part of a warp')
        if (np.asarray(mask) != 0xFFFFFFFF).any():
            raise PtxError('a collective with part of a warp in its mask')
        return active.reshape(-1, 32)

    # ---- running ----

    def run(self):
        while self.live.any():
            ready = self.live & ~self.waiting
            if not ready.any():
                if not self.live.all() or (self.place != self.place[0]).any():
                    raise PtxError('a barrier that part of the block never reaches')
                self.waiting[:] = False
            elif self.random is None:
                self.go_on(ready)
            else:
                warp = self.random.choice(np.unique(np.flatnonzero(ready) // 32))
                own = np.arange(self.count) // 32 == warp
                while (ready & own).any():
                    self.go_on(ready & own)
                    ready = self.live & ~self.waiting

    def go_on(self, ready):
        """Runs the threads at the lowest place until they part, meet others, wait or exit."""
        at = self.place[ready].min()
        active = ready & (self.place == at)
        others = ready & ~active
        meeting = self.place[others].min() if others.any() else -1
        who = slice(None) if active.all() else np.flatnonzero(active)
        while True:
            instruction = self.kernel.code[at]
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise PtxError('a block that does not end')
            own = who
            if instruction.guard is not None:
                taken = self.predicate(instruction.guard, who) ^ instruction.negated
                if not taken.all():
                    own = np.arange(self.count)[who][taken]
            if instruction.name in ('bra', 'ret', 'exit'):
                if not np.arange(self.count)[own].size:
                    at += 1
                elif instruction.name == 'bra':
                    target = self.kernel.labels[instruction.operands[0][1]]
                    if own is not who:
                        self.place[who] = at + 1
                        self.place[own] = target
                        return
                    at = target
                else:
                    self.place[who] = at + 1
                    self.live[own] = False
                    return
                if meeting >= 0 and at >= meeting:
                    break
                continue
            try:
                if own is who or own.size:
                    instruction.run(self, instruction, own)
            except PtxError as error:
                raise PtxError(f'{error}: {instruction.text}') from None
            at += 1
            if at == meeting or instruction.name in ('bar', 'barrier') and 'warp' not in instruction.parts:
                break
        self.place[who] = at


class Device:
    """Memory, and the kernels of PTX files."""

    launched = set()  # names, of all devices

    def __init__(self, text, bytes_of_memory=1 << 22):
        self.text, self.kernels = text, {}
        self.memory = Memory(BASE, bytes_of_memory, 'global')

    def put(self, array):
        """A copy of an array on the device: its address."""
        array = np.ascontiguousarray(array)
        address = self.memory.allocate(array.nbytes)
        self.memory.bytes[address - BASE:][:array.nbytes] = array.view(np.uint8).reshape(-1)
        return address

    def empty(self, shape, dtype):
        return self.memory.allocate(int(np.prod(shape)) * np.dtype(dtype).itemsize)

    def get(self, address, shape, dtype):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.memory.bytes[address - BASE:][:size].view(dtype).reshape(shape).copy()

    def launch(self, pattern, grid, threads, shared_bytes, *arguments, seed=None):
        """Arguments are ctypes structures or numbers of the parameters' sizes, or addresses as int."""
        if pattern not in self.kernels:
            self.kernels[pattern] = Kernel(self.text, pattern)
        kernel = self.kernels[pattern]
        Device.launched.add(kernel.name)
        if len(arguments) != len(kernel.parameters):
            raise PtxError(f'{pattern} takes {len(kernel.parameters)} arguments')
        parameters = bytearray(kernel.parameter_bytes)
        for argument, (at, size) in zip(arguments, kernel.parameters.values()):
            given = argument.to_bytes(8, 'little') if isinstance(argument, int) else bytes(argument)
            if len(given) != size:
                raise PtxError(f'{pattern} takes an argument of {size} bytes where {len(given)} are given')
            parameters[at:at + size] = given
        grid = tuple(grid) + (1,) * (3 - len(grid))
        with np.errstate(all='ignore'):
            for number in range(grid[0] * grid[1] * grid[2]):
                block = (number % grid[0], number // grid[0] % grid[1], number // (grid[0] * grid[1]))
                Block(kernel, bytes(parameters), self.memory, (threads, 1, 1), block, grid, shared_bytes,
                      None if seed is None else seed + number).run()
