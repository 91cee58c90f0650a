/* One forward after another on the CUDA device, in emulation with streams that are slow or fast: pictures that are copied while
 * the forward before is computed are the right ones, nothing is allocated, and nothing but the logits is waited for. With
 * graphs, forwards that are recorded once and launched again with other pictures and draws give the same bits as plain ones.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "emulation/streams.h"
#include "layers/cuda/cuda_ops.h"
#include "vit/tests/synthetic.h"

#ifdef T2T_REAL_DEVICE
enum { EMULATED = 0 }; /* nothing is counted */
#define t2t_fake_heuristics() ((size_t)0)
#else
enum { EMULATED = 1 };
#include "emulation/schedule.h"
#include "layers/cuda/tests/fake_cublaslt.h"
#endif
enum { BATCH = 3, CLASSES = SYNTHETIC_CLASSES, SIZE = 32, PIXELS = 3 * SIZE * SIZE, PLANS = 3, STEPS = 8, ROUNDS = 3 };

static struct t2t_model *model;
static struct t2t_plan plans[PLANS];

/* Smaller still: every forward is emulated many times. */
static struct t2t_model *load(enum t2t_tokens_type type)
{
    struct t2t_config config = synthetic_small;
    struct t2t_model *loaded;
    config.tokens_type = type;
    config.image_size = SIZE;
    config.token_dim = 16;
    if (synthetic_model_load(&loaded, &config, 1)) fail_msg("%s", t2t_last_error());
    return loaded;
}

/* A forward: its plan and pictures, and what is said before it of the pictures after it. */
enum promise { NOTHING, KEPT, SHORT, BROKEN };
struct step {
    size_t plan, batch;
    uint64_t pictures; /* seed */
    enum promise next;
    bool spoilt; /* a picture has a NaN: the forward fails, and is run once more to say where */
};
static const struct step steps[STEPS] = {{0, 3, 1, KEPT, false}, {1, 3, 2, KEPT, false}, {1, 1, 3, SHORT, false},
    {2, 3, 4, BROKEN, false}, {2, 2, 5, KEPT, false}, {0, 3, 6, KEPT, true}, {1, 3, 7, KEPT, false},
    {0, 2, 8, NOTHING, false}};

/* Other pictures in every round. */
static struct step step_of(size_t round, size_t number)
{
    struct step step = steps[number];
    step.pictures += 100 * round;
    return step;
}

static void paint(const struct step *step, float *pictures)
{
    for (size_t i = 0; i < step->batch; i++) synthetic_picture(SIZE, 10 * step->pictures + i, pictures + i * PIXELS);
    if (step->spoilt) pictures[PIXELS + 5] = NAN;
}

static struct t2t_session *open_session(bool graph)
{
    const struct t2t_session_options options = {
        .batch = BATCH, .ops = t2t_cuda_ops(), .device = {.graph = graph}, .plans = plans, .plan_count = PLANS};
    struct t2t_session *session;
    if (t2t_session_open(&session, model, &options)) fail_msg("%s", t2t_last_error());
    return session;
}

static void forward(struct t2t_session *session, const struct step *step, const float *pictures, float *logits)
{
    uint64_t place[BATCH];
    for (uint64_t i = 0; i < BATCH; i++) place[i] = 100 * step->pictures + i;
    t2t_session_use(session, step->plan);
    const enum t2t_status status = t2t_forward(session, pictures, place, step->batch, logits);
    if (step->spoilt) {
        assert_int_equal(status, T2T_NOT_FINITE);
        assert_non_null(strstr(t2t_last_error(), "soft_split0 for picture 1"));
        memset(logits, 0, BATCH * CLASSES * sizeof *logits);
    } else if (status) {
        fail_msg("%s", t2t_last_error());
    }
}

typedef float all_logits[ROUNDS][STEPS][BATCH * CLASSES];

static all_logits alone, together;

/* Each forward in a session of its own. */
static void run_alone(void)
{
    float pictures[BATCH * PIXELS];
    for (size_t round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < STEPS; i++) {
            const struct step step = step_of(round, i);
            struct t2t_session *session = open_session(false);
            paint(&step, pictures);
            forward(session, &step, pictures, alone[round][i]);
            t2t_session_close(session);
        }
}

/* A round in one session; two buffers of pictures take turns, and a third is promised and not given. */
static void run_together(struct t2t_session *session, size_t round, size_t overlapped[STEPS])
{
    static float pictures[2][BATCH * PIXELS], other[BATCH * PIXELS];
    struct step step = step_of(round, 0);
    paint(&step, pictures[0]);
    t2t_emulation_count();
    for (size_t i = 0; i < STEPS; i++) {
        float *now = pictures[i % 2], *later = pictures[(i + 1) % 2];
        const struct step next = step_of(round, (i + 1) % STEPS);
        paint(&next, later);
        if (step.next == KEPT) t2t_session_ahead(session, later, next.batch);
        if (step.next == SHORT) t2t_session_ahead(session, later, next.batch - 1);
        if (step.next == BROKEN) t2t_session_ahead(session, other, BATCH);
        forward(session, &step, now, together[round][i]);
        memset(now, 0xff, sizeof pictures[0]);
        overlapped[i] = t2t_emulation_count().overlapped;
        step = next;
    }
}

static void compare(bool graph)
{
    size_t overlapped[STEPS];
    for (unsigned slow = 1; slow < 4; slow++) {
        t2t_emulation_slow_streams(slow);
        struct t2t_session *session = open_session(graph);
        for (size_t round = 0; round < ROUNDS; round++) {
            run_together(session, round, overlapped);
            for (size_t i = 0; i < STEPS; i++)
                if (memcmp(alone[round][i], together[round][i], steps[i].batch * CLASSES * sizeof(float)) != 0)
                    fail_msg("streams %u, round %zu, forward %zu has other logits", slow, round, i);
        }
        t2t_session_close(session);
        /* With a slow stream of kernels and a fast one of copies, pictures arrive while kernels wait. */
        for (size_t i = 0; i < STEPS && slow == 1 && EMULATED; i++)
            if (!steps[i].spoilt) assert_int_equal(overlapped[i], steps[i].next != NOTHING);
    }
    t2t_emulation_slow_streams(0);
}

static void pictures_ahead_are_the_right_ones(void **state)
{
    (void)state;
    compare(false);
}

static void graphs_give_the_same(void **state)
{
    (void)state;
    compare(true);
}

/* Of the forward that was the `turn`-th of its kind. */
static void check_counts(size_t turn)
{
    const struct t2t_emulation_counts counts = t2t_emulation_count();
    assert_int_equal(counts.graphs, turn == 1);
    assert_int_equal(counts.replays, turn >= 1);
    assert_true(turn >= 2 ? counts.launches == 0 : counts.launches > 30);
    if (turn >= 2) assert_int_equal(counts.copies, 2); /* pictures: to the device, to their place */
    assert_int_equal(counts.pageable_copies, 1);
    assert_int_equal(counts.allocations, 0);
}

/* A forward with a graph: the first is plain, the second recorded, and of the third the host asks for nothing else. */
static void graphs_are_launched_whole(void **state)
{
    (void)state;
    struct t2t_session *session = open_session(true);
    float pictures[BATCH * PIXELS], logits[BATCH * CLASSES];
    for (size_t turn = 0; turn < 5; turn++)
        for (size_t plan = 0; plan < PLANS; plan++)
            for (size_t batch = 1; batch <= BATCH; batch += 2) {
                const struct step step = {.plan = plan, .batch = batch, .pictures = turn};
                paint(&step, pictures);
                t2t_emulation_count();
                forward(session, &step, pictures, logits);
                if (EMULATED) check_counts(turn);
                /* Layers have their times all the same. */
                const struct t2t_costs *costs = t2t_session_costs(session);
                double sum = 0;
                for (size_t layer = 0; layer < costs->layers; layer++) {
                    assert_true(costs->layer[layer].attention_seconds > 0);
                    assert_true(costs->layer[layer].seconds > costs->layer[layer].attention_seconds);
                    sum += costs->layer[layer].seconds;
                }
                assert_true(sum < costs->seconds);
            }
    t2t_session_close(session);
}

/* Token_performer draws nothing in its first layers. */
static void graphs_of_token_performer(void **state)
{
    (void)state;
    struct t2t_model *performer = load(T2T_TOKENS_PERFORMER);
    struct t2t_plan plan;
    float pictures[BATCH * PIXELS], logits[2][BATCH * CLASSES];
    const struct attention_config random = {.kind = ATTENTION_PERFORMER, .features = 20};
    t2t_plan_exact(performer, &plan);
    for (size_t layer = T2T_TOKEN_LAYERS; layer < T2T_TOKEN_LAYERS + synthetic_small.depth; layer++)
        assert_int_equal(t2t_plan_set(performer, &plan, layer, random), T2T_OK);
    struct t2t_session *session[2];
    for (size_t graph = 0; graph < 2; graph++) {
        const struct t2t_session_options options = {
            .batch = BATCH, .ops = t2t_cuda_ops(), .device = {.graph = graph}, .plans = &plan, .plan_count = 1};
        assert_int_equal(t2t_session_open(&session[graph], performer, &options), T2T_OK);
    }
    for (uint64_t turn = 0; turn < 4; turn++) {
        const struct step step = {.batch = BATCH, .pictures = turn};
        paint(&step, pictures);
        for (size_t graph = 0; graph < 2; graph++) forward(session[graph], &step, pictures, logits[graph]);
        assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
    }
    for (size_t graph = 0; graph < 2; graph++) t2t_session_close(session[graph]);
    t2t_model_free(performer);
}

static void forwards_allocate_nothing(void **state)
{
    (void)state;
    if (!EMULATED) skip();
    struct t2t_session *session = open_session(false);
    float pictures[BATCH * PIXELS], logits[BATCH * CLASSES];
    struct step step = {.batch = BATCH, .pictures = 1};
    const size_t chosen = t2t_fake_heuristics();
    paint(&step, pictures);
    for (step.plan = 0; step.plan < PLANS; step.plan++) {
        size_t copies[2];
        for (int turn = 0; turn < 2; turn++) {
            t2t_emulation_count();
            if (!turn) t2t_session_ahead(session, pictures, BATCH);
            forward(session, &step, pictures, logits);
            const struct t2t_emulation_counts counts = t2t_emulation_count();
            assert_int_equal(counts.allocations, 0);
            assert_int_equal(counts.pageable_copies, 1); /* of logits */
            assert_true(counts.launches > 30);
            copies[turn] = counts.copies;
        }
        assert_int_equal(copies[0] - copies[1], 2); /* its own and those ahead, which are not copied again */
    }
    step.plan = 0;
    for (step.batch = BATCH - 1; step.batch; step.batch--) forward(session, &step, pictures, logits);
    assert_int_equal(t2t_fake_heuristics(), chosen); /* products were made ready when the session opened */
    t2t_session_close(session);
}

/* Whatever device the thread used before. */
static void forwards_choose_their_device(void **state)
{
    (void)state;
#ifdef T2T_REAL_DEVICE
    skip();
#else
    struct t2t_session *session = open_session(false);
    float pictures[BATCH * PIXELS], logits[BATCH * CLASSES];
    const struct step step = {.batch = BATCH, .pictures = 1};
    paint(&step, pictures);
    for (int ahead = 0; ahead < 2; ahead++) {
        t2t_emulation_leave_device();
        if (ahead) t2t_session_ahead(session, pictures, BATCH);
        forward(session, &step, pictures, logits);
        assert_int_equal(t2t_emulation_device(), 0);
    }
    t2t_session_close(session);
#endif
}

/* Both pinned buffers are in use when a third copy is asked for. */
static void copies_wait_for_their_buffer(void **state)
{
    (void)state;
    enum { COPIES = 5, COUNT = 1000 };
    const struct layer_ops *ops = t2t_cuda_ops();
    const struct layer_device_options options = {.threads = 0};
    struct layer_device *device;
    float given[COUNT], taken[COPIES][COUNT];
    void *memory;
    t2t_emulation_slow_streams(2);
    assert_int_equal(ops->open(&device, &options), T2T_OK);
    assert_int_equal(ops->reserve(device, sizeof taken, &memory), T2T_OK);
    assert_int_equal(ops->input_open(device, COUNT), T2T_OK);
    for (size_t i = 0; i < COPIES; i++) {
        for (size_t j = 0; j < COUNT; j++) given[j] = (float)(i + 10 * j);
        ops->input(device, given, COUNT, (float *)memory + i * COUNT);
    }
    ops->output(device, memory, COPIES * COUNT, taken[0]);
    assert_int_equal(ops->finish(device), T2T_OK);
    for (size_t i = 0; i < COPIES; i++)
        for (size_t j = 0; j < COUNT; j++) assert_true(taken[i][j] == (float)(i + 10 * j));
    ops->release(device, memory);
    ops->close(device);
    t2t_emulation_slow_streams(0);
}

static int open_model(void **state)
{
    (void)state;
    /* Draws of every kind, other ones for each layer. */
    static const struct attention_config configs[PLANS][2] = {{{.kind = ATTENTION_KDEFORMER,
                                                                   .projections = 4,
                                                                   .bucket = 8,
                                                                   .samples = 6,
                                                                   .sampling = KDE_SYSTEMATIC,
                                                                   .probability = KDE_PILOT,
                                                                   .pilot = 8,
                                                                   .sample_groups = 2},
                                                                  {.kind = ATTENTION_PERFORMER, .features = 20}},
        {{.kind = ATTENTION_SCATTERBRAIN, .window = 7, .features = 12},
            {.kind = ATTENTION_KDEFORMER, .projections = 3, .bucket = 2, .samples = 1}},
        {{.kind = ATTENTION_REFORMER, .bucket = 9, .rounds = 2},
            {.kind = ATTENTION_REFORMER, .bucket = 2, .rounds = 2}}};
    model = load(T2T_TOKENS_TRANSFORMER);
    for (size_t p = 0; p < PLANS; p++) {
        t2t_plan_exact(model, &plans[p]);
        plans[p].seed = p;
        for (size_t layer = 0; layer < T2T_TOKEN_LAYERS + synthetic_small.depth; layer++)
            if (t2t_plan_set(model, &plans[p], layer, configs[p][layer >= T2T_TOKEN_LAYERS])) return 1;
    }
    run_alone();
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    t2t_model_free(model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_ahead_are_the_right_ones),
        cmocka_unit_test(forwards_allocate_nothing),
        cmocka_unit_test(graphs_give_the_same),
        cmocka_unit_test(graphs_are_launched_whole),
        cmocka_unit_test(graphs_of_token_performer),
        cmocka_unit_test(forwards_choose_their_device),
        cmocka_unit_test(copies_wait_for_their_buffer),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
