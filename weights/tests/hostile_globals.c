/* Every way to ask for code: globals that attacks on pickles have used, in three places each, and every instruction that
 * no checkpoint needs.
 */
#include <stdio.h>
#include <string.h>

#include "weights/tests/hostile.h"

static const char *const globals[][2] = {
    {"os", "system"},
    {"nt", "system"},
    {"posix", "popen"},
    {"subprocess", "check_output"},
    {"builtins", "eval"},
    {"builtins", "exec"},
    {"builtins", "getattr"},
    {"builtins", "__import__"},
    {"builtins", "compile"},
    {"builtins", "open"},
    {"builtins", "list"},
    {"__builtin__", "execfile"},
    {"__main__", "Model"},
    {"sys", "modules"},
    {"runpy", "_run_code"},
    {"importlib", "import_module"},
    {"functools", "partial"},
    {"operator", "attrgetter"},
    {"operator", "methodcaller"},
    {"itertools", "starmap"},
    {"types", "CodeType"},
    {"types", "FunctionType"},
    {"copyreg", "_reconstructor"},
    {"copyreg", "__newobj__"},
    {"copy_reg", "_reconstructor"},
    {"ctypes", "CDLL"},
    {"pty", "spawn"},
    {"pip", "main"},
    {"pydoc", "pipepager"},
    {"timeit", "timeit"},
    {"bdb", "Bdb.run"},
    {"code", "InteractiveInterpreter.runcode"},
    {"cProfile", "run"},
    {"doctest", "debug_script"},
    {"ensurepip", "_run_pip"},
    {"idlelib.pyshell", "ModifiedInterpreter.runcommand"},
    {"lib2to3.pgen2.grammar", "Grammar.loads"},
    {"asyncio.unix_events", "_UnixSubprocessTransport._start"},
    {"webbrowser", "open"},
    {"socket", "socket"},
    {"shutil", "rmtree"},
    {"pickle", "loads"},
    {"_pickle", "loads"},
    {"marshal", "loads"},
    {"dill._dill", "_create_function"},
    {"cloudpickle.cloudpickle", "_make_function"},
    {"joblib.numpy_pickle", "NumpyArrayWrapper"},
    {"numpy", "load"},
    {"numpy.core.multiarray", "_reconstruct"},
    {"numpy.testing._private.utils", "runstring"},
    {"torch", "load"},
    {"torch", "Tensor"},
    {"torch", "QInt8Storage"},
    {"torch.storage", "_load_from_bytes"},
    {"torch.storage", "UntypedStorage"},
    {"torch._utils", "_rebuild_sparse_tensor"},
    {"torch._utils", "_rebuild_qtensor"},
    {"torch._utils", "_rebuild_meta_tensor_no_storage"},
    {"torch._tensor", "_rebuild_from_type_v2"},
    {"torch.jit.unsupported_tensor_ops", "execWrapper"},
    {"torch.utils._config_module", "load_config"},
    {"torch.utils.collect_env", "run"},
    {"torch._dynamo.guards", "GuardBuilder.get"},
    {"torch.nn.modules.linear", "Linear"},
    {"collections", "OrderedDict.fromkeys"},
    {"argparse", "Namespace.__init__"},
    {"argparse", "ArgumentParser"},
    {"_codecs", "decode"},
    {"numpy", "dtype.type"},
    {"torch", "Size.__new__"},
};

enum { GLOBALS = sizeof globals / sizeof *globals, PLACES = 3 };

static void add_text(struct bytes *out, const char *text)
{
    bytes_add(out, text, strlen(text));
}

static void called_by_name(struct bytes *out, const char *module, const char *name)
{
    add_text(out, "c");
    add_text(out, module);
    add_text(out, "\n");
    add_text(out, name);
    add_text(out, "\n)R0}.");
}

static void called_from_the_stack(struct bytes *out, const char *module, const char *name)
{
    const char *const texts[] = {module, name};
    for (size_t i = 0; i < 2; i++) {
        add_text(out, "\x8c");
        bytes_number(out, strlen(texts[i]), 1);
        add_text(out, texts[i]);
    }
    add_text(out, "\x93)R0}.");
}

static void zip_of(struct bytes *out, const struct bytes *pickle)
{
    zip_archive(out, &(const struct zip_part){"a/data.pkl", pickle->data, pickle->size}, 1);
}

bool hostile_global(size_t index, struct hostile *hostile)
{
    if (index >= GLOBALS * PLACES) return false;
    const char *module = globals[index / PLACES][0], *name = globals[index / PLACES][1];
    *hostile = (struct hostile){.word = hostile->name};
    snprintf(hostile->name, sizeof hostile->name, "global %s.%s", module, name);
    struct bytes pickle = {0};
    switch (index % PLACES) {
    case 0:
        add_text(&pickle, "\x80\2");
        called_by_name(&pickle, module, name);
        zip_of(&hostile->file, &pickle);
        break;
    case 1:
        add_text(&pickle, "\x80\4");
        called_from_the_stack(&pickle, module, name);
        zip_of(&hostile->file, &pickle);
        break;
    default: /* where the legacy form keeps the machine it was written on, the third pickle */
        bytes_add(&hostile->file, "\x80\2\x8a\nl\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3.\x80\2", 23);
        called_by_name(&hostile->file, module, name);
        break;
    }
    bytes_free(&pickle);
    return true;
}

/* ---- instructions ---- */

static const char needed[] = "N\x88\x89JKM\x8aGUTXBC\x8c\x8d\x8e}])\x8ft\x85\x86\x87(01aesu\x90\x91qr\x94hj\x95"
                             "c\x93R\x81"
                             "bQ.";

bool hostile_instruction(size_t index, struct hostile *hostile)
{
    for (unsigned code = 0; code < 256; code++) {
        if (memchr(needed, (int)code, sizeof needed - 1) || index-- > 0) continue;
        *hostile = (struct hostile){.word = hostile->name};
        snprintf(hostile->name, sizeof hostile->name, "instruction 0x%02x", code);
        struct bytes pickle = {0};
        bytes_add(&pickle, "\x80\4}(NNNN", 8);
        bytes_number(&pickle, code, 1);
        bytes_add(&pickle, "0\n0\n0\n0\n.", 9);
        zip_of(&hostile->file, &pickle);
        bytes_free(&pickle);
        return true;
    }
    return false;
}
