/* Pickles that must be refused. Each becomes data.pkl of an archive whose data/0 holds four float32. */
#include <stdio.h>
#include <string.h>

#include "weights/tests/hostile.h"

#define P "\x80\2"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"
#define ID(TYPE, KEY, ELEMENTS) "(X\7\0\0\0storagectorch\n" TYPE "Storage\nX\1\0\0\0" KEY "X\3\0\0\0cpu" ELEMENTS "t"
#define STORAGE ID("Float", "0", "K\4") "Q"
#define TENSOR_OF(STORED, OFFSET, SIZES, STRIDES) REBUILD "(" STORED OFFSET SIZES STRIDES "\x89}tR"
#define TENSOR(OFFSET, SIZES, STRIDES) TENSOR_OF(STORAGE, OFFSET, SIZES, STRIDES)
#define GOOD TENSOR("K\0", "K\4\x85", "K\1\x85")
#define NAME "X\1\0\0\0w"
#define IN_DICT(VALUE) P "}" NAME VALUE "s."
#define LONG_2_62 "\x8a\x08\0\0\0\0\0\0\0\x40"
#define MINUS_1 "J\xff\xff\xff\xff"

struct row {
    const char *name, *pickle;
    size_t bytes;
    const char *word;
};
#define ROW(NAME_, PICKLE, WORD)                                                                                       \
    {                                                                                                                  \
        NAME_, PICKLE, sizeof(PICKLE) - 1, WORD                                                                        \
    }

static const struct row rows[] = {
    ROW("empty", "", "ends early"),
    ROW("protocol 0", "(dp0\n.", "no pickle of protocol 2 to 4"),
    ROW("protocol 1", "\x80\1}.", "has protocol 1"),
    ROW("protocol 5", "\x80\5}.", "has protocol 5"),
    ROW("nothing after the protocol", P, "ends early"),
    ROW("protocol twice", P P "}.", "instruction 0x80"),
    /* code */
    ROW("os.system", P "cos\nsystem\n(X\2\0\0\0idtR.", "byte 2 asks for the global os.system"),
    ROW("posix.system", P "cposix\nsystem\n(X\2\0\0\0idtR.", "global posix.system"),
    ROW("subprocess.Popen", P "}" NAME "csubprocess\nPopen\n(X\2\0\0\0idtRs.",
        "byte 9 asks for the global subprocess.Popen"),
    ROW("builtins.eval",
        P "cbuiltins\neval\n(X\1\0\0\0"
          "1tR.",
        "global builtins.eval"),
    ROW("builtins.getattr", P "cbuiltins\ngetattr\n.", "global builtins.getattr"),
    ROW("__builtin__.exec", P "c__builtin__\nexec\n.", "global __builtin__.exec"),
    ROW("importlib", P "cimportlib\nimport_module\n.", "global importlib.import_module"),
    ROW("torch.load", P "ctorch\nload\n.", "global torch.load"),
    ROW("torch.hub", P "ctorch.hub\nload_state_dict_from_url\n.", "global torch.hub.load"),
    ROW("copyreg", P "ccopyreg\n_reconstructor\n.", "global copyreg._reconstructor"),
    ROW("numpy array", P "cnumpy.core.multiarray\n_reconstruct\n.", "global numpy.core.multiarray._reconstruct"),
    ROW("attribute of an allowed one", P "ccollections\nOrderedDict.__init__\n.", "OrderedDict.__init__"),
    ROW("allowed name, other module", P "cos\nOrderedDict\n.", "global os.OrderedDict"),
    ROW("name that begins like an allowed one", P "ccollections\nOrderedDictX\n.", "OrderedDictX"),
    ROW("global with control characters", P "cos\33[31m\nsystem\n.", "os??31m.system"),
    ROW("global without an end", P "cos\nsystem", "ends early"),
    ROW("stack global", "\x80\4\x8c\2os\x8c\6system\x93)R.", "global os.system"),
    ROW("stack global of numbers", "\x80\4K\1K\2\x93.", "whose name is no text"),
    ROW("stack global of nothing", "\x80\4\x93.", "takes more values"),
    ROW("inst", P "(ios\nsystem\n.", "instruction 0x69"),
    ROW("obj", P "(cos\nsystem\no.", "global os.system"),
    ROW("obj of an allowed one", P "(ccollections\nOrderedDict\no.", "instruction 0x6f"),
    ROW("extension registry", P "\x82\1.", "instruction 0x82"),
    ROW("newobj_ex", "\x80\4ccollections\nOrderedDict\n)}\x92.", "instruction 0x92"),
    ROW("text persistent id", P "Pstorage\n.", "instruction 0x50"),
    ROW("unknown instruction", P "\xff.", "instruction 0xff"),
    ROW("bytearray", P "\x96\0\0\0\0\0\0\0\0.", "instruction 0x96"),
    ROW("outside buffer", P "\x97.", "instruction 0x97"),
    ROW("dup", P "N2.", "instruction 0x32"),
    ROW("text number", P "I1\n.", "instruction 0x49"),
    ROW("text put", P "Np0\n.", "instruction 0x70"),
    /* the stack */
    ROW("pop of nothing", P "0.", "takes more values"),
    ROW("tuple without mark", P "Nt.", "never begun"),
    ROW("tuple of three of two", P "NN\x87.", "takes more values"),
    ROW("tuple through a mark", P "N(N\x86.", "takes more values"),
    ROW("setitem of nothing", P "s.", "takes more values"),
    ROW("setitems without container", P "(u.", "takes more values"),
    ROW("key without value", P "}(NNNu.", "key without a value"),
    ROW("append to a dictionary", P "}Na.", "no list"),
    ROW("item of a list", P "]NNs.", "no dictionary"),
    ROW("item of a tensor", P GOOD "NNs.", "no dictionary"),
    ROW("append to a tensor", P GOOD "Na.", "no list"),
    ROW("attributes of a tensor", P GOOD "}b.", "has none"),
    ROW("attributes of a dictionary", P "}}b.", "has none"),
    ROW("attributes of a storage", P STORAGE "}b.", "has none"),
    ROW("call of a number", P "K\1)R.", "cannot be called"),
    ROW("call of a text", P NAME ")R.", "cannot be called"),
    ROW("arguments in a list", P "ccollections\nOrderedDict\n]R.", "cannot be called"),
    ROW("call of a storage type", P "ctorch\nFloatStorage\n(K\4tR.", "only ever named"),
    ROW("call of a dtype", P "ctorch\nfloat32\n)R.", "only ever named"),
    ROW("dictionary of arguments", P "ccollections\nOrderedDict\n(]tR.", "OrderedDict of arguments"),
    ROW("object of a function", P REBUILD ")\x81.", "no class"),
    ROW("two values", P "}}.", "other than one value"),
    ROW("open mark", P "}(.", "other than one value"),
    ROW("no value", P ".", "other than one value"),
    /* memory */
    ROW("get of nothing", P "h\0.", "never remembered"),
    ROW("far get", P "j\xff\xff\xff\xff.", "never remembered"),
    ROW("far put", P "Nr\xff\xff\xff\xff.", "beyond all bounds"),
    ROW("put of nothing", P "q\0.", "takes more values"),
    /* lengths */
    ROW("long text", P "X\xff\xff\xff\xffw", "longer than 16 MiB"),
    ROW("text beyond the end", P "X\xff\0\0\0w", "ends early"),
    ROW("longer text", "\x80\4\x8d\xff\xff\xff\xff\xff\xff\xff\xffw", "longer than 16 MiB"),
    ROW("long frame", "\x80\4\x95\xff\xff\xff\xff\xff\xff\xff\xff}.", "longer than 16 MiB"),
    ROW("frame beyond the end", "\x80\4\x95\xff\0\0\0\0\0\0\0}.", "ends early"),
    ROW("half a number", P "J\0\0", "ends early"),
    ROW("long beyond the end", P "\x8a\xff\0", "ends early"),
    /* storages */
    ROW("id that is no tuple", IN_DICT("NQ"), "no storage"),
    ROW("id of a module",
        IN_DICT("(X\6\0\0\0modulectorch\nFloatStorage\nX\1\0\0\0"
                "0X\3\0\0\0cpuK\4tQ"),
        "no storage"),
    ROW("id of four",
        IN_DICT("(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
                "0X\3\0\0\0cputQ"),
        "no storage"),
    ROW("id with a number as key", IN_DICT("(X\7\0\0\0storagectorch\nFloatStorage\nK\0X\3\0\0\0cpuK\4tQ"),
        "no storage"),
    ROW("id with an empty key", IN_DICT("(X\7\0\0\0storagectorch\nFloatStorage\nX\0\0\0\0X\3\0\0\0cpuK\4tQ"),
        "by a name"),
    ROW("id of a dtype",
        IN_DICT("(X\7\0\0\0storagectorch\nfloat32\nX\1\0\0\0"
                "0X\3\0\0\0cpuK\4tQ"),
        "no storage"),
    ROW("complex storage", IN_DICT(TENSOR_OF(ID("ComplexFloat", "0", "K\2") "Q", "K\0", "K\1\x85", "K\1\x85")),
        "global torch.ComplexFloatStorage"),
    ROW("negative storage", IN_DICT(ID("Float", "0", MINUS_1) "Q"), "no storage"),
    ROW("storage of an exabyte", IN_DICT(ID("Float", "0", LONG_2_62) "Q"), "more than 1 GiB"),
    ROW("view of a storage",
        IN_DICT(ID("Float", "0",
            "K\4(X\1\0\0\0"
            "0K\0K\4t") "Q"),
        "view of a storage"),
    ROW("storage that is not there", IN_DICT(TENSOR_OF(ID("Float", "7", "K\4") "Q", "K\0", "K\4\x85", "K\1\x85")),
        "no data/7"),
    ROW("storage outside", IN_DICT(TENSOR_OF(ID("Float", "/", "K\4") "Q", "K\0", "K\4\x85", "K\1\x85")), "no data//"),
    ROW("storage too small", IN_DICT(TENSOR_OF(ID("Float", "0", "K\5") "Q", "K\0", "K\5\x85", "K\1\x85")),
        "data/0 has 16 bytes, its tensor needs 20"),
    ROW("storage of two types",
        P "}(" NAME GOOD "X\1\0\0\0v" TENSOR_OF(ID("Half", "0", "K\x08") "Q", "K\0", "K\4\x85", "K\1\x85") "u.",
        "two ways"),
    /* tensors */
    ROW("offset beyond", IN_DICT(TENSOR("K\1", "K\4\x85", "K\1\x85")), "beyond its storage"),
    ROW("size beyond", IN_DICT(TENSOR("K\0", "K\5\x85", "K\1\x85")), "beyond its storage"),
    ROW("stride beyond", IN_DICT(TENSOR("K\0", "K\4\x85", "K\2\x85")), "beyond its storage"),
    ROW("far offset of nothing", IN_DICT(TENSOR("K\5", "K\0\x85", "K\1\x85")), "beyond its storage"),
    ROW("sizes that overflow", IN_DICT(TENSOR("K\0", LONG_2_62 LONG_2_62 "\x86", "K\0K\0\x86")), "beyond its storage"),
    ROW("strides that overflow", IN_DICT(TENSOR("K\0", "K\5K\4\x86", LONG_2_62 "K\1\x86")), "beyond its storage"),
    ROW("offset that overflows",
        IN_DICT(TENSOR("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "K\4\x85", LONG_2_62 "\x85")), "beyond its storage"),
    ROW("negative offset", IN_DICT(TENSOR(MINUS_1, "K\4\x85", "K\1\x85")), "no storage"),
    ROW("negative size", IN_DICT(TENSOR("K\0", MINUS_1 "\x85", "K\1\x85")), "whole numbers from 0"),
    ROW("negative stride", IN_DICT(TENSOR("K\0", "K\4\x85", MINUS_1 "\x85")), "whole numbers from 0"),
    ROW("size in a list", IN_DICT(TENSOR("K\0", "](K\4e", "K\1\x85")), "whole numbers from 0"),
    ROW("size that is text", IN_DICT(TENSOR("K\0", NAME "\x85", "K\1\x85")), "whole numbers from 0"),
    ROW("nine dimensions", IN_DICT(TENSOR("K\0", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t")),
        "whole numbers from 0"),
    ROW("fewer strides", IN_DICT(TENSOR("K\0", "K\2K\2\x86", "K\1\x85")), "whole numbers from 0"),
    ROW("negated tensor", IN_DICT(REBUILD "(" STORAGE "K\0K\4\x85K\1\x85\x89}}X\3\0\0\0neg\x88stR"),
        "negated, conjugated"),
    ROW("properties in a tuple", IN_DICT(REBUILD "(" STORAGE "K\0K\4\x85K\1\x85\x89})tR"), "negated, conjugated"),
    ROW("tensor of a tensor", IN_DICT(TENSOR_OF(GOOD, "K\0", "K\4\x85", "K\1\x85")), "no storage"),
    ROW("tensor of a text", IN_DICT(TENSOR_OF(NAME, "K\0", "K\4\x85", "K\1\x85")), "no storage"),
    ROW("tensor of no arguments", IN_DICT(REBUILD ")R"), "no storage"),
    ROW("parameter of a number", IN_DICT("ctorch._utils\n_rebuild_parameter\n(K\1\x89}tR"), "no tensor"),
    ROW("size of a number", IN_DICT("ctorch\nSize\n(K\1tR"), "no tuple"),
    ROW("dense view of 2^40", IN_DICT(TENSOR("K\0", "\x8a\6\0\0\0\0\0\1\x85", "K\0\x85")), "more than the 1 GiB"),
    /* dictionaries */
    ROW("a number", P "K\1.", "holds a number"),
    ROW("a list", P "].", "holds a list"),
    ROW("a tensor", P GOOD ".", "holds a tensor"),
    ROW("a tuple of a tensor", P GOOD "\x85.", "holds a tuple"),
    ROW("an empty dictionary", P "}.", "holds no tensors"),
    ROW("a number as name", P "}K\1" GOOD "s.", "as a key"),
    ROW("a number as weight", P "}" NAME "K\1s.", "w is a number, expected a tensor"),
    ROW("a storage as weight", IN_DICT(STORAGE), "w is a storage, expected a tensor"),
    ROW("state_dict that is a list", P "}X\12\0\0\0state_dict]s.", "its state_dict is a list"),
    ROW("state_dict_ema that is a tensor", P "}X\16\0\0\0state_dict_ema" GOOD "s.", "its state_dict_ema is a tensor"),
    ROW("state_dict in itself", P "}q\0X\12\0\0\0state_dicth\0s.", "state_dict is a dictionary, expected a tensor"),
    ROW("list in itself", P "]q\0h\0a.", "holds a list"),
    ROW("name with a line end", P "}X\3\0\0\0a\nb" GOOD "s.", "no plain text"),
    ROW("name that is no UTF-8", P "}X\2\0\0\0a\xff" GOOD "s.", "no plain text"),
    ROW("name with a surrogate", P "}X\3\0\0\0\xed\xa0\x80" GOOD "s.", "no plain text"),
    ROW("name in an overlong form", P "}X\2\0\0\0\xc0\xaf" GOOD "s.", "no plain text"),
    ROW("name beyond Unicode", P "}X\4\0\0\0\xf4\x90\x80\x80" GOOD "s.", "no plain text"),
    ROW("name with an escape", P "}X\4\0\0\0\33[2J" GOOD "s.", "no plain text"),
    ROW("name with a C1 control", P "}X\4\0\0\0\xc2\x9b\x32J" GOOD "s.", "no plain text"),
    ROW("empty name", P "}X\0\0\0\0" GOOD "s.", "has 0 bytes"),
    ROW("name with a zero", P "}X\3\0\0\0a\0b" GOOD "s.", "no plain text"),
    ROW("reserved name", P "}X\14\0\0\0__metadata__" GOOD "s.", "no plain text"),
    ROW("name twice", P "}(" NAME GOOD NAME GOOD "u.", "two tensors are called w"),
    ROW("name twice once stripped", P "}(" NAME GOOD "X\10\0\0\0module.w" GOOD "u.", "once prefixes are taken off"),
    ROW("more after the end", IN_DICT(GOOD) "N.", "goes on after its end"),
};

bool hostile_pickle(size_t index, struct hostile *hostile)
{
    static const float data[4] = {1, 2, 3, 4};
    if (index >= sizeof rows / sizeof *rows) return false;
    const struct row *row = &rows[index];
    const struct zip_part parts[] = {{"a/data.pkl", row->pickle, row->bytes}, {"a/data/0", data, sizeof data}};
    *hostile = (struct hostile){.word = row->word};
    snprintf(hostile->name, sizeof hostile->name, "%s", row->name);
    zip_archive(&hostile->file, parts, 2);
    return true;
}
