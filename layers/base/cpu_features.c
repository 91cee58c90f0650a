/* cpuid and xgetbv for instruction sets; sched_getaffinity and the cgroup files for threads. */
#include "layers/base/cpu_features.h"

#include <cpuid.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_intel(void)
{
    uint32_t a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx && c == signature_INTEL_ecx &&
           d == signature_INTEL_edx;
}

/* Linux keeps tiles for a process only once it has asked. */
static bool tiles_are_granted(void)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, its component of the registers' state */
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

static uint64_t saved_registers(void)
{
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

struct t2t_cpu_features t2t_cpu_features(void)
{
    enum { OSXSAVE = 1 << 27, FMA = 1 << 12 };                                 /* leaf 1, ecx */
    enum { AVX2 = 1 << 5, AVX512F = 1 << 16, AVX512DQ = 1 << 17 };             /* leaf 7, ebx */
    const uint32_t avx512bw = UINT32_C(1) << 30, avx512vl = UINT32_C(1) << 31; /* leaf 7, ebx */
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };                           /* leaf 7, edx */
    enum { AVX512_BF16 = 1 << 5 };                                             /* leaf 7.1, eax */
    enum { YMM = 0x6, ZMM = 0xe6, TILES = 0x60000 };                           /* state components in XCR0 */

    struct t2t_cpu_features features = {0};
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE)) return features;
    const bool fma = c & FMA;
    const uint64_t saved = saved_registers();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return features;
    const bool amx = (d & AMX_BF16) && (d & AMX_TILE);
    features.avx2_fma = fma && (b & AVX2) && (saved & YMM) == YMM;
    features.avx512 = features.avx2_fma && (b & AVX512F) && (b & AVX512DQ) && (b & avx512bw) && (b & avx512vl) &&
                      (saved & ZMM) == ZMM;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) features.avx512bf16 = features.avx512 && (a & AVX512_BF16);
    features.slow_bf16 = features.avx512bf16 && is_intel();
    features.amx_bf16 = features.avx512bf16 && amx && (saved & TILES) == TILES && tiles_are_granted();
    return features;
}

/* Processors that the quota in a cgroup file allows, 0 where there is none. */
static size_t cgroup_limit(void)
{
    long long quota = 0, period = 0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file) {
        if (fscanf(file, "%lld %lld", &quota, &period) != 2) quota = 0; /* "max" means no limit */
        fclose(file);
    } else {
        FILE *quota_file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re");
        FILE *period_file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re");
        if (!quota_file || !period_file || fscanf(quota_file, "%lld", &quota) != 1 ||
            fscanf(period_file, "%lld", &period) != 1)
            quota = 0;
        if (quota_file) fclose(quota_file);
        if (period_file) fclose(period_file);
    }
    return quota > 0 && period > 0 ? (size_t)((quota + period - 1) / period) : 0;
}

size_t t2t_cpu_allowed(void)
{
    cpu_set_t set;
    const int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    const size_t affinity = count > 0 ? (size_t)count : 1;
    const size_t limit = cgroup_limit();
    return limit && limit < affinity ? limit : affinity;
}
