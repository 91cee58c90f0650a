"""A kernel's PTX as a list of instructions."""
import re

import numpy as np

import instructions
from arithmetic import PtxError, TYPES


class Instruction:
    __slots__ = ('name', 'parts', 'operands', 'guard', 'negated', 'run', 'text')


class Kernel:
    """The one entry whose mangled name matches a regular expression."""

    def __init__(self, text, pattern):
        text = re.sub(r'//[^\n]*', '', text)
        heads = [head for head in re.finditer(r'\.entry\s+(\w+)\s*\((.*?)\)[^{;]*\{', text, re.S)
                 if re.search(pattern, head.group(1))]
        if len(heads) != 1:
            raise PtxError(f'{len(heads)} kernels are called {pattern}')
        self.name = heads[0].group(1)
        self.parameters, self.parameter_bytes = self.layout(heads[0].group(2))
        self.registers = {}                                                   # name or prefix to dtype
        self.shared = set(re.findall(r'\.extern\s+\.shared\s+.*?\s(\w+)\[\]', text))  # all begin at 0
        self.code, self.labels = [], {}
        self.parse(text, heads[0].end())

    @staticmethod
    def layout(text):
        places, end = {}, 0
        for align, kind, name, count in re.findall(
                r'\.param(?:\s+\.align\s+(\d+))?\s+\.(\w+)\s+(\w+)(?:\[(\d+)\])?', text):
            size = np.dtype(TYPES[kind]).itemsize
            align = int(align or size)
            at = (end + align - 1) // align * align
            places[name] = (at, size * int(count or 1))
            end = at + size * int(count or 1)
        return places, end

    def parse(self, text, at):
        scopes = ['']  # of inline PTX, whose registers are its own
        while scopes:
            at += len(re.match(r'\s*', text[at:at + 10000]).group())
            if text[at] == '{':
                scopes.append(f'{len(self.code)}.{len(scopes)}:')
                at += 1
            elif text[at] == '}':
                scopes.pop()
                at += 1
            elif label := re.compile(r'(\$?\w+):').match(text, at):
                self.labels[label.group(1)] = len(self.code)
                at = label.end()
            else:
                end = text.index(';', at)
                self.statement(' '.join(text[at:end].split()), scopes)
                at = end + 1

    def statement(self, text, scopes):
        if text.startswith('.reg'):
            kind, names = re.match(r'\.reg \.(\w+) (.*)', text).groups()
            dtype = bool if kind == 'pred' else TYPES['b' + kind[1:] if kind[0] in 'usf' else kind]
            for name in names.replace(' ', '').split(','):
                name = name.split('<')[0] if '<' in name else scopes[-1] + name
                self.registers[name] = dtype
            return
        if text.startswith('.'):
            if not text.startswith(('.pragma', '.loc')):
                raise PtxError(f'unknown directive: {text}')
            return
        made = Instruction()
        made.text, made.guard = text, None
        if guard := re.match(r'@(!?)(\S+) ', text):
            made.negated, made.guard = guard.group(1) == '!', self.operand(guard.group(2), scopes)
            text = text[guard.end():]
        name, _, rest = text.partition(' ')
        made.name, *made.parts = name.split('.')
        made.operands = [self.operand(word, scopes) for word in
                         re.findall(r'\{[^}]*\}|\[[^\]]*\]|[^,]+', rest.replace(' ', ''))]
        if made.name not in instructions.TABLE:
            raise PtxError(f'unknown instruction: {made.text}')
        made.run = instructions.TABLE[made.name]
        self.code.append(made)

    def register(self, name, scopes):
        for scope in reversed(scopes):
            if scope + name in self.registers:
                return scope + name, self.registers[scope + name]
        prefix = re.match(r'%[a-z]+', name)
        if prefix and prefix.group() in self.registers:
            return name, self.registers[prefix.group()]
        return None

    def operand(self, text, scopes):
        """('register', name, dtype) | ('special', name) | ('number', bits or float) | ('vector', operands) |
        ('at', operand, offset) | ('label', name) | ('parameter', name) | ('not', register)."""
        if text[0] == '{':
            return 'vector', [self.operand(word, scopes) for word in text[1:-1].split(',')]
        if text[0] == '[':
            base, offset = re.match(r'\[([%$\w.]+)(?:\+(-?\d+))?\]', text).groups()
            return 'at', self.operand(base, scopes), int(offset or 0)
        if text[0] == '!':
            return 'not', self.operand(text[1:], scopes)
        if '|' in text:  # two results
            return 'vector', [self.operand(word, scopes) for word in text.split('|')]
        if found := self.register(text, scopes):
            return 'register', *found
        if re.match(r'%(n?tid|n?ctaid)\.[xyz]$|%laneid$', text):
            return 'special', text
        if number := re.match(r'0([fd])([0-9A-F]+)$', text):
            kind = {'f': np.uint32, 'd': np.uint64}[number.group(1)]
            return 'number', np.array(int(number.group(2), 16), kind)
        if re.match(r'-?(0x)?[0-9A-Fa-f]+U?$', text):
            return 'number', int(text.rstrip('U'), 0)
        if text == '_':
            return 'nowhere', None
        if text in self.parameters:
            return 'parameter', text
        if text in self.shared:
            return 'number', 0
        return 'label', text
