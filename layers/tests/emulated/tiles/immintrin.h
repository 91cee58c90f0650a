/* Stands before the compiler's header where kernels_amx_bf16.c is built for a processor without AMX: its tiles in C, as
 * Intel's manual defines them (Software Developer's Manual, volume 2: LDTILECFG, TDPBF16PS), under the usual names. What
 * the processor would trap on, it refuses.
 */
#ifndef T2T_TESTS_EMULATED_TILES_IMMINTRIN_H
#define T2T_TESTS_EMULATED_TILES_IMMINTRIN_H

#include_next <immintrin.h>

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { EMULATED_TILES = 8, EMULATED_ROWS = 16, EMULATED_PAIRS = 16 };

static _Thread_local struct {
    int configured; /* none before that, nor after a release */
    int rows[EMULATED_TILES], row_bytes[EMULATED_TILES];
    uint32_t tile[EMULATED_TILES][EMULATED_ROWS][EMULATED_PAIRS];
} emulated;

static void emulated_loadconfig(const void *memory)
{
    const uint8_t *bytes = memory;
    assert(bytes[0] == 1 && bytes[1] == 0 && !emulated.configured);
    for (int i = 2; i < 16; i++) assert(bytes[i] == 0);
    for (int i = 0; i < 16; i++) {
        const int row_bytes = bytes[16 + 2 * i] | bytes[17 + 2 * i] << 8, rows = bytes[48 + i];
        assert(row_bytes <= 64 && rows <= EMULATED_ROWS && !row_bytes == !rows && (i < EMULATED_TILES || !rows));
        if (i >= EMULATED_TILES) continue;
        emulated.row_bytes[i] = row_bytes;
        emulated.rows[i] = rows;
    }
    emulated.configured = 1;
    memset(emulated.tile, 0, sizeof emulated.tile);
}

static void emulated_release(void)
{
    emulated.configured = 0;
}

static int emulated_rows(int tile)
{
    assert(emulated.configured && tile < EMULATED_TILES && emulated.rows[tile]);
    return emulated.rows[tile];
}

static void emulated_zero(int tile)
{
    assert(emulated_rows(tile));
    memset(emulated.tile[tile], 0, sizeof emulated.tile[tile]);
}

static void emulated_loadd(int tile, const void *memory, size_t stride)
{
    emulated_zero(tile);
    for (int r = 0; r < emulated_rows(tile); r++)
        memcpy(emulated.tile[tile][r], (const char *)memory + (size_t)r * stride, (size_t)emulated.row_bytes[tile]);
}

static void emulated_stored(int tile, void *memory, size_t stride)
{
    for (int r = 0; r < emulated_rows(tile); r++)
        memcpy((char *)memory + (size_t)r * stride, emulated.tile[tile][r], (size_t)emulated.row_bytes[tile]);
}

static float emulated_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return fpclassify(x) == FP_SUBNORMAL ? 0 : x;
}

/* sum [m, n] += left [m, pairs] . right [pairs, n], the even product of a pair first. */
static void emulated_dpbf16ps(int sum, int left, int right)
{
    const int columns = emulated.row_bytes[sum] / 4, pairs = emulated.row_bytes[left] / 4;
    assert(emulated_rows(sum) == emulated_rows(left) && pairs == emulated_rows(right));
    assert(columns == emulated.row_bytes[right] / 4 && sum != left && sum != right && left != right);
    for (int m = 0; m < emulated.rows[sum]; m++)
        for (int n = 0; n < columns; n++) {
            float total = emulated_float(emulated.tile[sum][m][n]);
            for (int k = 0; k < pairs; k++) {
                const uint32_t a = emulated.tile[left][m][k], b = emulated.tile[right][k][n];
                total += emulated_float(a << 16) * emulated_float(b << 16);
                total += emulated_float(a & 0xffff0000) * emulated_float(b & 0xffff0000);
            }
            memcpy(&emulated.tile[sum][m][n], &total, sizeof total);
        }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig emulated_loadconfig
#define _tile_release emulated_release
#define _tile_zero emulated_zero
#define _tile_loadd emulated_loadd
#define _tile_stored emulated_stored
#define _tile_dpbf16ps emulated_dpbf16ps

#endif
