/* Products of tensor cores, and the loading of their factors. */
#include "fibers.h"

#include <cuda_fp16.h>

namespace emulation
{

namespace
{

float float_of_float16(uint16_t bits)
{
    static float table[65536];
    if (!(table[0x3c00] > 0)) /* of 1 */
        for (unsigned i = 0; i < 65536; i++) table[i] = __half2float(__half(__half_raw{static_cast<uint16_t>(i)}));
    return table[bits];
}

float float_of_bfloat16(uint16_t bits)
{
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Products are exact; their sum is cut to float32 towards zero, as was measured on devices (Fasi, Higham, Mikaitis, Pranesh
 * 2021), whose few bits more than that vary. */
float cut(double sum)
{
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if (fabs(sum) < 3.4e38) bits &= ~((UINT64_C(1) << 29) - 1);
    memcpy(&sum, &bits, sizeof sum);
    return static_cast<float>(sum);
}

/* PTX ISA, mma.m16n8k16: layers/cuda/mma.cuh says which lane holds what. */
void execute_product(void *const *argument, unsigned mask, float (*value_of)(uint16_t))
{
    if (mask != 0xffffffffu) fail("a product of tensor cores by part of a warp, mask %08x", mask);
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const Product *product = static_cast<const Product *>(argument[lane]);
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 2; i++) { /* low half, high half */
            const auto half = [&](uint32_t pair) { return value_of(static_cast<uint16_t>(pair >> 16 * i)); };
            a[g][2 * t + i] = half(product->a[0]);
            a[g + 8][2 * t + i] = half(product->a[1]);
            a[g][2 * t + 8 + i] = half(product->a[2]);
            a[g + 8][2 * t + 8 + i] = half(product->a[3]);
            b[2 * t + i][g] = half(product->b[0]);
            b[2 * t + 8 + i][g] = half(product->b[1]);
        }
    }
    for (int row = 0; row < 16; row++) {
        float *d[8];
        double sum[8];
        for (int column = 0; column < 8; column++) {
            d[column] = static_cast<const Product *>(argument[row % 8 * 4 + column / 2])->d + row / 8 * 2 + column % 2;
            sum[column] = static_cast<double>(*d[column]);
        }
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++)
                sum[column] += static_cast<double>(a[row][k]) * static_cast<double>(b[k][column]);
        for (int column = 0; column < 8; column++) *d[column] = cut(sum[column]);
    }
}

void execute_load(void *const *argument, unsigned mask, bool transposed)
{
    if (mask != 0xffffffffu) fail("matrices loaded by part of a warp, mask %08x", mask);
    for (int matrix = 0; matrix < 4; matrix++) {
        uint16_t value[8][8];
        for (int row = 0; row < 8; row++)
            memcpy(value[row], static_cast<const Matrices *>(argument[8 * matrix + row])->row, sizeof value[row]);
        for (int lane = 0; lane < 32; lane++) {
            const int g = lane / 4, t = lane % 4;
            const uint32_t low = transposed ? value[2 * t][g] : value[g][2 * t];
            const uint32_t high = transposed ? value[2 * t + 1][g] : value[g][2 * t + 1];
            static_cast<const Matrices *>(argument[lane])->to[matrix] = low | high << 16;
        }
    }
}

} /* namespace */

void execute_product_float16(void *const *argument, unsigned mask)
{
    execute_product(argument, mask, float_of_float16);
}
void execute_product_bfloat16(void *const *argument, unsigned mask)
{
    execute_product(argument, mask, float_of_bfloat16);
}
void execute_load_matrices(void *const *argument, unsigned mask)
{
    execute_load(argument, mask, false);
}
void execute_load_transposed(void *const *argument, unsigned mask)
{
    execute_load(argument, mask, true);
}

} /* namespace emulation */
