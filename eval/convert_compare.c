/* --list and --verify of t2tvit-convert. */
#include "eval/convert_compare.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "eval/convert_names.h"
#include "eval/convert_values.h"

enum { CHUNK = 1024 };

static enum t2t_status open_all(
    struct t2t_checkpoint **checkpoint, const char *path, const struct t2t_checkpoint_options *options)
{
    enum t2t_status status = t2t_checkpoint_open(checkpoint, path, options);
    if (!status) status = t2t_checkpoint_load(*checkpoint, NULL);
    return status;
}

/* ---- list ---- */

static void list_tensor(const struct t2t_tensor *tensor)
{
    double values[CHUNK], least = INFINITY, greatest = -INFINITY;
    size_t odd = 0;
    for (size_t first = 0; first < tensor->elements; first += CHUNK) {
        const size_t count = tensor->elements - first < CHUNK ? tensor->elements - first : CHUNK;
        t2t_values_read(tensor, first, count, values);
        for (size_t i = 0; i < count; i++) {
            if (!isfinite(values[i])) {
                odd++;
                continue;
            }
            least = fmin(least, values[i]);
            greatest = fmax(greatest, values[i]);
        }
    }
    char shape[128];
    printf("%-44s %-5s %-16s", tensor->name, t2t_dtype_name(tensor->dtype), t2t_tensor_shape_text(tensor, shape));
    if (least <= greatest)
        printf(" %12.5g %12.5g %8zu\n", least, greatest, odd);
    else
        printf(" %12s %12s %8zu\n", "-", "-", odd);
}

enum t2t_status t2t_convert_list(const char *path, const struct t2t_checkpoint_options *options)
{
    struct t2t_checkpoint *checkpoint;
    const enum t2t_status status = open_all(&checkpoint, path, options);
    if (!status) printf("%-44s %-5s %-16s %12s %12s %8s\n", "tensor", "type", "shape", "min", "max", "nan+inf");
    for (size_t i = 0; !status && i < t2t_checkpoint_count(checkpoint); i++)
        list_tensor(t2t_checkpoint_at(checkpoint, i));
    t2t_checkpoint_close(checkpoint);
    return status;
}

/* ---- verify ---- */

/* Largest difference; two NaN are equal, one is infinitely far from a number. */
static double difference(const struct t2t_tensor *one, const struct t2t_tensor *other)
{
    double a[CHUNK], b[CHUNK], largest = 0;
    for (size_t first = 0; first < one->elements; first += CHUNK) {
        const size_t count = one->elements - first < CHUNK ? one->elements - first : CHUNK;
        t2t_values_read(one, first, count, a);
        t2t_values_read(other, first, count, b);
        for (size_t i = 0; i < count; i++) {
            if ((isnan(a[i]) && isnan(b[i])) || a[i] == b[i]) continue;
            const double apart = fabs(a[i] - b[i]);
            largest = isnan(apart) ? (double)INFINITY : fmax(largest, apart);
        }
    }
    return largest;
}

static bool same_shape(const struct t2t_tensor *one, const struct t2t_tensor *other)
{
    return one->rank == other->rank && memcmp(one->shape, other->shape, one->rank * sizeof *one->shape) == 0;
}

struct verdict {
    size_t compared, differing;
    double largest;
};

static void compare(
    const struct t2t_tensor *one, const struct t2t_tensor *other, double tolerance, struct verdict *verdict)
{
    char one_shape[128], other_shape[128];
    if (!same_shape(one, other)) {
        printf("%s: %s in one, %s in the other\n", one->name, t2t_tensor_shape_text(one, one_shape),
            t2t_tensor_shape_text(other, other_shape));
        verdict->differing++;
        return;
    }
    const double apart = difference(one, other);
    verdict->compared++;
    verdict->largest = fmax(verdict->largest, apart);
    if (apart <= tolerance) return;
    printf("%s: differs by up to %g\n", one->name, apart);
    verdict->differing++;
}

static void only_in(
    const struct t2t_checkpoint *in, const struct t2t_checkpoint *missing, const char *path, struct verdict *verdict)
{
    for (size_t i = 0; i < t2t_checkpoint_count(in); i++) {
        const char *name = t2t_checkpoint_at(in, i)->name;
        if (t2t_checkpoint_find(missing, name)) continue;
        printf("%s: only in %s\n", name, path);
        verdict->differing++;
    }
}

enum t2t_status t2t_convert_verify(
    const char *one, const char *other, const struct t2t_checkpoint_options *options, double tolerance, bool *equal)
{
    struct t2t_checkpoint *first = NULL, *second = NULL;
    bool rewritten;
    enum t2t_status status = open_all(&first, one, options);
    if (!status) status = t2t_convert_names(first, &rewritten);
    if (!status) status = open_all(&second, other, options);
    if (!status) status = t2t_convert_names(second, &rewritten);
    struct verdict verdict = {0};
    for (size_t i = 0; !status && i < t2t_checkpoint_count(first); i++) {
        const struct t2t_tensor *tensor = t2t_checkpoint_at(first, i);
        const struct t2t_tensor *counterpart = t2t_checkpoint_find(second, tensor->name);
        if (counterpart) compare(tensor, counterpart, tolerance, &verdict);
    }
    if (!status) {
        only_in(first, second, one, &verdict);
        only_in(second, first, other, &verdict);
        *equal = verdict.differing == 0;
        printf("%s: %zu tensors compared, largest difference %g, %zu tensors differ by more than %g\n",
            *equal ? "equal" : "not equal", verdict.compared, verdict.largest, verdict.differing, tolerance);
    }
    t2t_checkpoint_close(first);
    t2t_checkpoint_close(second);
    return status;
}
