/* Numbers of weights on their way to another file: types, what does not fit, position tables. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/convert_values.h"
#include "layers/base/half.h"

static struct t2t_tensor tensor_of(enum t2t_dtype dtype, size_t elements, const void *data)
{
    return (struct t2t_tensor){
        .name = "w", .dtype = dtype, .rank = 1, .shape = {elements}, .elements = elements, .data = data};
}

/* ---- types ---- */

static void double_precision_is_rounded_once(void **state)
{
    (void)state;
    const double values[] = {0.1, -1 / 3.0, 1e-45, 16777217, 3.4028235e38};
    struct t2t_tensor tensor = tensor_of(T2T_F64, 5, values);
    void *memory;
    assert_int_equal(t2t_values_convert(&tensor, T2T_F32, false, "file", &memory), T2T_OK);
    assert_int_equal(tensor.dtype, T2T_F32);
    for (size_t i = 0; i < 5; i++) {
        float value;
        memcpy(&value, (const char *)tensor.data + i * sizeof value, sizeof value);
        assert_true(value == (float)values[i]);
    }
    free(memory);
}

static void what_is_right_stays_where_it_is(void **state)
{
    (void)state;
    const float values[] = {1, -0.0F, 2.5F};
    struct t2t_tensor tensor = tensor_of(T2T_F32, 3, values);
    void *memory = &tensor;
    assert_int_equal(t2t_values_convert(&tensor, T2T_F32, false, "file", &memory), T2T_OK);
    assert_null(memory);
    assert_ptr_equal(tensor.data, values);
}

static void names_what_does_not_fit(void **state)
{
    (void)state;
    const double large[] = {1, 1e39}, beyond_half[] = {65504, 65519.9, 65520};
    const float odd[] = {0, INFINITY, NAN};
    static const enum t2t_dtype smaller[] = {T2T_F32, T2T_BF16, T2T_F16};
    void *memory;
    for (size_t i = 0; i < 3; i++) {
        struct t2t_tensor tensor = tensor_of(T2T_F64, 2, large);
        assert_int_equal(t2t_values_convert(&tensor, smaller[i], false, "file", &memory), T2T_BAD_MODEL);
        assert_non_null(strstr(t2t_last_error(), "file: tensor w holds 1e+39 at element 1"));
    }
    struct t2t_tensor tensor = tensor_of(T2T_F64, 3, beyond_half);
    assert_int_equal(t2t_values_convert(&tensor, T2T_F16, false, "file", &memory), T2T_BAD_MODEL);
    assert_non_null(strstr(t2t_last_error(), "65520 at element 2, which F16 cannot hold"));

    tensor = tensor_of(T2T_F32, 3, odd);
    assert_int_equal(t2t_values_convert(&tensor, T2T_F32, false, "file", &memory), T2T_BAD_MODEL);
    assert_non_null(strstr(t2t_last_error(), "NaN or infinity at element 1"));
    assert_int_equal(t2t_values_convert(&tensor, T2T_BF16, true, "file", &memory), T2T_OK);
    uint16_t kept[3];
    memcpy(kept, tensor.data, sizeof kept);
    assert_true(isinf(t2t_bfloat16_to_float(kept[1])) && isnan(t2t_bfloat16_to_float(kept[2])));
    free(memory);
}

/* ---- positions ---- */

/* Grid of 3 x 3, its size changed by torch.nn.functional.interpolate(mode='bicubic') of PyTorch 2 in float64. */
static void resizes_as_torch_does(void **state)
{
    (void)state;
    static const float positions[] = {7, -3.0F, -1.875F, 1.25F, -0.625F, -0.5F, 1.625F, -1.25F, -2.125F, -1.0F};
    static const double four[] = {7, -3.25637269, -2.75616288, -0.690248251, 1.45253968, -1.45489335, -1.31656098,
        0.183626413, 1.96453691, -0.564515829, -0.991910696, -0.376131296, 0.839051962, -1.22690368, -2.01617599,
        -1.96612382, -1.112818};
    static const double two[] = {7, -2.33155823, 0.795425415, -1.22605896, -0.714370728};
    const double *const expected[] = {two, four};
    for (size_t i = 0; i < 2; i++) {
        const size_t side = 2 + 2 * i;
        struct t2t_tensor tensor = {
            .name = "pos_embed", .rank = 3, .shape = {1, 10, 1}, .elements = 10, .data = positions};
        void *memory;
        assert_int_equal(t2t_values_resize_positions(&tensor, 3, side, &memory), T2T_OK);
        assert_int_equal(tensor.elements, 1 + side * side);
        assert_int_equal(tensor.shape[1], 1 + side * side);
        for (size_t j = 0; j < tensor.elements; j++)
            assert_true(fabs((double)((const float *)tensor.data)[j] - expected[i][j]) < 1e-6);
        free(memory);
    }
}

static void knows_the_sinusoid(void **state)
{
    (void)state;
    float table[5 * 4];
    for (size_t i = 0; i < 20; i++) {
        const double angle = (double)(i / 4) / pow(10000, 2 * (double)(i % 4 / 2) / 4);
        table[i] = (float)(i % 2 ? cos(angle) : sin(angle));
    }
    const struct t2t_tensor tensor = {
        .name = "pos_embed", .rank = 3, .shape = {1, 5, 4}, .elements = 20, .data = table};
    assert_true(t2t_values_sinusoid_difference(&tensor) < 1e-7);
    table[13] += 0.25F;
    assert_true(fabs(t2t_values_sinusoid_difference(&tensor) - 0.25) < 1e-6);
    table[13] = NAN;
    assert_true(isnan(t2t_values_sinusoid_difference(&tensor)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(double_precision_is_rounded_once),
        cmocka_unit_test(what_is_right_stays_where_it_is),
        cmocka_unit_test(names_what_does_not_fit),
        cmocka_unit_test(resizes_as_torch_does),
        cmocka_unit_test(knows_the_sinusoid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
