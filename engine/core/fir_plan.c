#include "fir_plan.h"

#include <math.h>
#include <string.h>

#include "fft.h"

/* Nanoseconds on a server processor with 2 MB of second cache for each core: of AVX2 where the machine is quiet, of AVX-512 beside
   busy neighbours. The proportions choose the stages; the scale is that of the recursions' model, which they are set against. */
#define LEVEL_NS 0.22   /* a bin's share of one level of a transform; loading it and putting it away are in it */
#define PRODUCT_NS 0.23 /* a product of two bins */
#define BYTE_NS 0.03    /* a byte of spectra that comes from beyond the second cache */
#define DIRECT_NS 0.04  /* a tap applied to a frame directly */

/* A stage's spectra, in bytes, that are all in the second cache when their turn comes again; and of which none are. In between are
   some: the other stages use it, too. */
#define NEAR_BYTES (768.0 * 1024)
#define FAR_BYTES (2304.0 * 1024)

/* A stage must be this much larger than the one before: smaller steps save nothing. */
#define LEAST_GROWTH 2
#define MOST_GROWTH 32

struct shape {
    uint32_t taps;  /* of a phase */
    uint32_t block; /* 0: not known */
    double in, out; /* transforms per partition: forward, inverse */
    double paths;   /* filters, all phases */
    double distinct;
};

static uint32_t partitions_of(uint32_t from, uint32_t to, uint32_t partition) { return (to - from + partition - 1) / partition; }

/* Whether the usual block is made of whole partitions, which need no direct part. */
static int comes_whole(const struct shape *shape, uint32_t partition) { return shape->block && shape->block % partition == 0; }

static double far_share(double bytes) { return fmin(fmax((bytes - NEAR_BYTES) / (FAR_BYTES - NEAR_BYTES), 0), 1); }

static double stage_ns(const struct shape *shape, const struct core_fir_stage *stage) {
    double transforms = (shape->in + shape->out) * LEVEL_NS * log2(stage->partition);
    double bytes = 8.0 * stage->partitions * (shape->distinct + shape->in); /* per frame */
    double reading = bytes * BYTE_NS * far_share(bytes * stage->partition);
    return transforms + stage->partitions * shape->paths * PRODUCT_NS + reading;
}

static void add_stage(const struct shape *shape, struct fir_plan *plan, uint32_t partition, uint32_t from, uint32_t to) {
    struct core_fir_stage *stage = &plan->stage[plan->count++];
    *stage = (struct core_fir_stage){partition, partitions_of(from, to, partition), from, 0, 0};
    if (plan->count > 1 || stage->partitions > 1)
        stage->ns = stage_ns(shape, stage);
    if (plan->count == 1 && (stage->partitions == 1 || !comes_whole(shape, partition)))
        stage->ns += shape->paths * DIRECT_NS * (to < partition ? to : partition);
    plan->ns += stage->ns;
}

/* Return the plan for the given partitions; count 0 if they do not fit. */
static struct fir_plan plan_of(const struct shape *shape, const uint32_t *partitions, uint32_t count) {
    struct fir_plan plan = {0};
    for (uint32_t s = 0; s < count; s++) {
        uint32_t partition = partitions[s];
        if (partition < FFT_MIN_BINS || partition > FFT_MAX_BINS || partition & (partition - 1))
            return (struct fir_plan){0};
        if (s && partition < LEAST_GROWTH * partitions[s - 1])
            return (struct fir_plan){0};
        uint32_t from = s ? 2 * partition : 0;
        uint32_t to = s + 1 < count ? 2 * partitions[s + 1] : shape->taps;
        if (from >= shape->taps)
            break;
        add_stage(shape, &plan, partition, from, to < shape->taps ? to : shape->taps);
    }
    return plan;
}

static void try_plans(const struct shape *shape, uint32_t *partitions, uint32_t count, struct fir_plan *best) {
    struct fir_plan plan = plan_of(shape, partitions, count);
    if (plan.count && plan.count == count && (!best->count || plan.ns < best->ns))
        *best = plan;
    if (count == FIR_MAX_STAGES)
        return;
    for (uint32_t growth = LEAST_GROWTH; growth <= MOST_GROWTH; growth *= 2) {
        partitions[count] = partitions[count - 1] * growth;
        if (partitions[count] <= FFT_MAX_BINS)
            try_plans(shape, partitions, count + 1, best);
    }
}

struct fir_plan fir_plan_for(const struct core_fir_spec *spec, uint32_t paths, uint32_t distinct, uint32_t used_inputs,
                             uint32_t used_outputs) {
    struct shape shape = {
        .taps = (spec->count + spec->phases - 1) / spec->phases,
        .block = spec->block,
        .in = used_inputs,
        .out = (double)used_outputs * spec->phases,
        .paths = (double)paths * spec->phases,
        .distinct = (double)distinct * spec->phases,
    };
    uint32_t given = 0;
    while (given < FIR_MAX_STAGES && spec->partitions[given])
        given++;
    if (given)
        return plan_of(&shape, spec->partitions, given);
    struct fir_plan best = {0};
    uint32_t partitions[FIR_MAX_STAGES];
    for (partitions[0] = FFT_MIN_BINS; partitions[0] <= FFT_MAX_BINS; partitions[0] *= 2)
        try_plans(&shape, partitions, 1, &best);
    return best;
}

double core_fir_model(const struct core_fir_spec *spec, uint32_t paths, uint32_t distinct, uint32_t used_inputs,
                      uint32_t used_outputs) {
    return fir_plan_for(spec, paths, distinct, used_inputs, used_outputs).ns;
}
