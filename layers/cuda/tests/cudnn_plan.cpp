/* cuDNN itself finishes plans of the graph that the device makes, for an H100 that is described and not there: layer 1 and
 * the blocks, both formats. Skipped in words where the library is not installed. The argument is the description.
 */
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <sstream>

extern "C" {
#include <cmocka.h>
}

#include "layers/cuda/cudnn_graph.h"

namespace
{

std::string h100;

void make(const GraphSizes &sizes, const std::string &device, bool wanted)
{
    for (cudnnDataType_t type : {CUDNN_DATA_HALF, CUDNN_DATA_BFLOAT16}) {
        const CudnnGraph graph(t2t_cudnn_library(), sizes, type, nullptr, device.c_str());
        if (graph.ok() != wanted)
            fail_msg("n = %d, %d heads: %s", static_cast<int>(sizes.queries), static_cast<int>(sizes.heads),
                wanted ? graph.why().c_str() : "a plan where none was expected");
        assert_true(graph.workspace_bytes() < 1 << 26);
        print_message("  n = %d, %d x %d heads: %s\n", static_cast<int>(sizes.queries), static_cast<int>(sizes.batch),
            static_cast<int>(sizes.heads),
            wanted ? (std::to_string(graph.workspace_bytes()) + " bytes of workspace").c_str() : graph.why().c_str());
    }
}

void layers_have_plans(void **)
{
    for (const bool packed : {true, false}) {
        make({1, 1, 3136, 3136, 64, 64, packed}, h100, true);
        make({8, 1, 784, 784, 64, 64, packed}, h100, true);
        make({3, 6, 197, 197, 64, 64, packed}, h100, true);
    }
}

/* Where the device's own kernel must do. */
void some_have_none(void **)
{
    make({1, 1, 197, 197, 60, 60, true}, h100, false);
    std::string turing = h100;
    const char version[] = "\"deviceVer\": 900";
    const size_t at = turing.find(version);
    assert_true(at != std::string::npos);
    turing.replace(at, sizeof version - 1, "\"deviceVer\": 750");
    make({1, 1, 197, 197, 64, 64, true}, turing, false);
}

} /* namespace */

int main(int count, char **arguments)
{
    if (!t2t_cudnn_library()) {
        printf("skipped: libcudnn.so.9 cannot be opened here, so no plan of it is made\n");
        return 77;
    }
    std::ifstream file(count > 1 ? arguments[1] : "h100-deviceprop.json");
    std::stringstream text;
    text << file.rdbuf();
    h100 = text.str();
    const struct CMUnitTest tests[] = {cmocka_unit_test(layers_have_plans), cmocka_unit_test(some_have_none)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
