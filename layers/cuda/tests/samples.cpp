/* From the same probabilities the device takes the same keys with the same weights as the CPU: even and uneven ones, keys
 * that are certain, keys of probability 0, fewer keys than samples, more than a block of threads.
 */
#include "layers/cuda/kde.h"

#include <cmath>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <vector>

extern "C" {
#include <cmocka.h>

#include "layers/base/random.h"
#include "layers/cpu/kde_attention.h"
}
#include "schedule.h"

namespace
{

struct Case {
    int units, groups, keys, samples;
    double power; /* probabilities are that of uniform numbers: 1 tells them little apart, 12 makes a few certain */
};

struct Sampled {
    uint32_t key;
    float weight;
};

/* Of list `list` on the CPU, what the device was given. */
std::vector<Sampled> on_the_cpu(const Case &c, bool systematic, size_t list, const float *probability,
    const uint32_t *order, const uint32_t *uniform)
{
    const size_t keys = static_cast<size_t>(c.keys), samples = static_cast<size_t>(c.samples);
    const size_t groups = static_cast<size_t>(c.groups), unit = list / groups, group = list % groups;
    std::vector<uint64_t> weight(keys);
    std::vector<Sampled> taken;
    if (systematic) {
        std::vector<struct kde_sample> sample(keys < samples ? keys : samples);
        const uint32_t offset = static_cast<uint32_t>(uniform[unit] + (static_cast<uint64_t>(group) << 32) / groups);
        t2t_kde_weigh(probability + list * keys, keys, weight.data());
        const size_t count =
            t2t_kde_systematic(order + unit * keys, keys, samples, offset, weight.data(), sample.data());
        for (size_t s = 0; s < count; s++)
            taken.push_back({static_cast<uint32_t>(sample[s].key), static_cast<float>(-log2(sample[s].expected))});
        return taken;
    }
    t2t_kde_cumulate(probability + list * keys, keys, weight.data());
    for (size_t s = 0; s < samples; s++) {
        const size_t key = t2t_kde_pick(weight.data(), keys, uniform[list * samples + s]);
        const uint64_t own = weight[key] - (key ? weight[key - 1] : 0);
        const double expected =
            static_cast<double>(samples) * (static_cast<double>(own) / static_cast<double>(weight[keys - 1]));
        taken.push_back({static_cast<uint32_t>(key), static_cast<float>(-log2(expected))});
    }
    return taken;
}

void compare(const Case &c, bool systematic, uint64_t seed)
{
    const size_t keys = static_cast<size_t>(c.keys), samples = static_cast<size_t>(c.samples);
    const size_t units = static_cast<size_t>(c.units), lists = units * static_cast<size_t>(c.groups);
    std::vector<float> probability(lists * keys), weight(lists * samples, NAN);
    std::vector<uint32_t> order(units * keys), uniform(lists * samples), bits(lists * keys);
    std::vector<unsigned long long> sums(lists * keys);
    std::vector<uint32_t> key(lists * samples, 0xffffffff);
    std::vector<int> taken(lists, -1);
    const struct t2t_random_key random = {seed, 0, 0, 0, T2T_RANDOM_TEST};
    t2t_random_uint32(random, uniform.size(), uniform.data());
    t2t_random_uint32({seed + 1, 0, 0, 0, T2T_RANDOM_TEST}, bits.size(), bits.data());
    for (size_t list = 0; list < lists; list++) {
        double sum = 0;
        const auto power = [&](size_t j) {
            return j % 11 == 5 ? 0 : pow(0x1p-32 * static_cast<double>(bits[list * keys + j]), c.power);
        };
        for (size_t j = 0; j < keys; j++) sum += power(j);
        for (size_t j = 0; j < keys; j++)
            probability[list * keys + j] = static_cast<float>(sum > 0 ? power(j) / sum : 0);
    }
    for (size_t i = 0; i < order.size(); i++) order[i] = static_cast<uint32_t>((i % keys * 11 + 3) % keys);

    struct layer_device device = {};
    struct attention_call call = {};
    call.config.sampling = systematic ? KDE_SYSTEMATIC : KDE_MULTINOMIAL;
    KdeCall kde = {};
    kde.call = &call;
    kde.device = &device;
    kde.units = units;
    kde.sizes.keys = c.keys;
    kde.sizes.groups = c.groups;
    kde.sizes.samples = c.samples;
    kde.memory.probability = probability.data();
    kde.memory.weight = sums.data();
    kde.memory.k_order = order.data();
    kde.memory.sample_uniform = uniform.data();
    kde.memory.sample_key = key.data();
    kde.memory.sample_weight = weight.data();
    kde.memory.taken = taken.data();
    assert_int_equal(cudaStreamCreateWithFlags(&device.stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(t2t_cuda_kde_samples(kde), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(device.stream), cudaSuccess);
    cudaStreamDestroy(device.stream);
    for (size_t list = 0; list < lists; list++) {
        const std::vector<Sampled> wanted =
            on_the_cpu(c, systematic, list, probability.data(), order.data(), uniform.data());
        assert_int_equal(taken[list], wanted.size());
        for (size_t s = 0; s < wanted.size(); s++) {
            const size_t at = list * samples + s;
            if (key[at] != wanted[s].key || !(fabsf(weight[at] - wanted[s].weight) <= 1e-6F * fabsf(weight[at])))
                fail_msg("%s, %d keys, list %zu, sample %zu: key %u of weight %g, on the CPU %u of %g",
                    systematic ? "systematic" : "multinomial", c.keys, list, s, key[at],
                    static_cast<double>(weight[at]), wanted[s].key, static_cast<double>(wanted[s].weight));
        }
    }
}

void the_same_samples(void **)
{
    static const Case cases[] = {{1, 1, 1, 1, 1}, {2, 1, 5, 9, 1}, {1, 2, 197, 13, 1}, {3, 4, 255, 7, 3},
        {1, 1, 256, 40, 12}, {2, 4, 257, 96, 2}, {1, 2, 784, 28, 12}, {1, 4, 1500, 96, 6}};
    for (int schedule = 0; schedule < 3; schedule++) {
        t2t_emulation_schedule(static_cast<uint64_t>(schedule), schedule);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            for (int systematic = 0; systematic < 2; systematic++) compare(cases[i], systematic, 10 * i + 1);
    }
}

} /* namespace */

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_samples)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
