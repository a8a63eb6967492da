/* fir_setup.c - what the convolver does on the control thread: check, plan, allocate, transform the taps. Compiled once per level. */
#include "fir_state.h"
#include "memory.h"

#include <string.h>

/* Products of bins that one step of a stage sums: some ten microseconds. */
#define STEP_PRODUCTS 32768u

/* How long a step takes against the others, by bin: a level of a transform, a product. */
#define FORWARD_WEIGHT 0.4
#define INVERSE_WEIGHT 0.3
#define PRODUCT_WEIGHT 0.6

/* Hands out pieces of one block of memory, or only counts them while `base` is NULL. */
struct arena {
    char *base;
    size_t used;
};

static void *piece(struct arena *arena, size_t count, size_t size) {
    size_t at = arena->used;
    arena->used += (count * size + CORE_CACHE_LINE - 1) / CORE_CACHE_LINE * CORE_CACHE_LINE;
    return arena->base ? arena->base + at : NULL;
}

static float *floats(struct arena *arena, size_t count) { return piece(arena, count, sizeof(float)); }

/* An array of pointers; while pieces are only counted, one that takes any of them. */
static float **pointers(struct arena *arena, size_t count, float **spare) {
    float **array = piece(arena, count, sizeof(float *));
    return array ? array : spare;
}

/* Which filters there are. */
struct paths {
    uint32_t same[FIR_MAX_CHANNELS * FIR_MAX_CHANNELS]; /* [output * inputs + input]: the first equal one; NONE: all zeros */
    uint32_t count, distinct, used_in, used_out;
};
#define NONE UINT32_MAX

static const float *taps_of(const struct core_fir_spec *spec, uint32_t path) { return spec->taps + (size_t)path * spec->count; }

static bool all_zero(const float *taps, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (taps[i] != 0)
            return false;
    return true;
}

static uint32_t first_equal(const struct core_fir_spec *spec, const struct paths *paths, uint32_t path) {
    for (uint32_t p = 0; p < path; p++)
        if (paths->same[p] == p && !memcmp(taps_of(spec, p), taps_of(spec, path), spec->count * sizeof(float)))
            return p;
    return path;
}

static struct paths find_paths(struct core_fir *fir, const struct core_fir_spec *spec) {
    struct paths paths = {.count = 0};
    for (uint32_t p = 0; p < spec->inputs * spec->outputs; p++) {
        if (all_zero(taps_of(spec, p), spec->count)) {
            paths.same[p] = NONE;
            continue;
        }
        paths.same[p] = first_equal(spec, &paths, p);
        paths.count++;
        paths.distinct += paths.same[p] == p;
        fir->used_out[p / spec->inputs] = fir->used_in[p % spec->inputs] = true;
    }
    for (uint32_t c = 0; c < FIR_MAX_CHANNELS; c++) {
        paths.used_in += fir->used_in[c];
        paths.used_out += fir->used_out[c];
    }
    return paths;
}

static bool in_range(const struct core_fir_spec *spec) {
    return spec->inputs && spec->inputs <= FIR_MAX_CHANNELS && spec->outputs && spec->outputs <= FIR_MAX_CHANNELS &&
           spec->phases && spec->phases <= FIR_MAX_PHASES && spec->count && spec->count <= FIR_MAX_TAPS && spec->taps;
}

static void set_sizes(struct core_fir *fir, const struct core_fir_spec *spec) {
    uint32_t taps = (spec->count + spec->phases - 1) / spec->phases;
    fir->stages = fir->plan.count;
    for (uint32_t s = 0; s < fir->stages; s++) {
        struct fir_stage *stage = &fir->stage[s];
        stage->partition = fir->plan.stage[s].partition;
        stage->partitions = fir->plan.stage[s].partitions;
        stage->slots = stage->partitions + 1;
        stage->tiles = stage->partition / TILE_BINS;
        /* An odd number of slots keeps neighbouring tiles from competing for the same lines of a cache. */
        stage->filter_stride = (size_t)(stage->partitions | 1) * TILE_FLOATS;
        stage->signal_stride = (size_t)(stage->slots | 1) * TILE_FLOATS;
        stage->paired = fir->plan.stage[s].partitions > 2;
        stage->silent = true;
    }
    fir->spectral = fir->stages > 1 || fir->stage[0].partitions > 1;
    fir->head_taps = taps < fir->stage[0].partition ? taps : fir->stage[0].partition;
    fir->ring = 3 * fir->stage[fir->stages - 1].partition;
}

static uint32_t path_of(const struct core_fir *fir, uint32_t voice, uint32_t input) {
    return voice / fir->phases * fir->inputs + input;
}

/* Place the filters, or the heads, `size` floats each, in `arena`: equal paths have one. */
static void lay_out_filters(const struct core_fir *fir, struct arena *arena, const struct paths *paths, float **to, size_t size) {
    for (uint32_t voice = 0; voice < fir->voices; voice++)
        for (uint32_t i = 0; i < fir->inputs; i++) {
            uint32_t path = path_of(fir, voice, i), same = paths->same[path];
            uint32_t at = arena->base ? voice * fir->inputs + i : 0;
            if (same == path)
                to[at] = floats(arena, size);
            else if (same != NONE && arena->base)
                to[at] = to[(same / fir->inputs * fir->phases + voice % fir->phases) * fir->inputs + same % fir->inputs];
        }
}

static void lay_out_stage(const struct core_fir *fir, struct fir_stage *stage, struct arena *arena, const struct paths *paths) {
    float *spare[1];
    bool counting = !arena->base;
    stage->filters = pointers(arena, (size_t)fir->voices * fir->inputs, spare);
    lay_out_filters(fir, arena, paths, stage->filters, stage->tiles * stage->filter_stride);
    stage->signals = pointers(arena, fir->inputs, spare);
    for (uint32_t i = 0; i < fir->inputs; i++)
        if (fir->used_in[i])
            stage->signals[counting ? 0 : i] = floats(arena, stage->tiles * stage->signal_stride);
    stage->re = pointers(arena, fir->voices, spare);
    stage->im[0] = pointers(arena, fir->voices, spare);
    stage->im[1] = pointers(arena, fir->voices, spare);
    for (uint32_t voice = 0; voice < fir->voices; voice++) {
        if (!fir->used_out[voice / fir->phases])
            continue;
        stage->re[counting ? 0 : voice] = floats(arena, stage->partition);
        stage->im[1][counting ? 0 : voice] = floats(arena, stage->partition);
        if (stage != &fir->stage[0]) /* the first stage's is played at once */
            stage->im[0][counting ? 0 : voice] = floats(arena, stage->partition);
    }
    stage->early = stage->paired ? pointers(arena, fir->voices, spare) : NULL;
    for (uint32_t voice = 0; stage->paired && voice < fir->voices; voice++)
        if (fir->used_out[voice / fir->phases])
            stage->early[counting ? 0 : voice] = floats(arena, 2 * (size_t)stage->partition);
    stage->work = floats(arena, 2 * (size_t)stage->partition);
    stage->steps = piece(arena, stage->step_count, sizeof *stage->steps);
}

static void lay_out(struct core_fir *fir, struct arena *arena, const struct paths *paths) {
    float *spare[1];
    bool counting = !arena->base;
    size_t margin = fir->stage[0].partition;
    for (uint32_t s = 0; fir->spectral && s < fir->stages; s++)
        lay_out_stage(fir, &fir->stage[s], arena, paths);
    fir->heads = pointers(arena, (size_t)fir->voices * fir->inputs, spare);
    lay_out_filters(fir, arena, paths, fir->heads, fir->head_taps);
    fir->history = pointers(arena, fir->inputs, spare);
    for (uint32_t i = 0; i < fir->inputs; i++) {
        float *history = floats(arena, margin + fir->ring + SPAN_FRAMES);
        fir->history[counting ? 0 : i] = history ? history + margin : NULL;
    }
    fir->tails = pointers(arena, fir->voices, spare);
    for (uint32_t voice = 0; voice < fir->voices; voice++)
        fir->tails[counting ? 0 : voice] = floats(arena, fir->stage[0].partition);
    if (fir->phases == 1)
        return;
    fir->planes = pointers(arena, fir->voices, spare);
    for (uint32_t voice = 0; voice < fir->voices; voice++)
        fir->planes[counting ? 0 : voice] = floats(arena, fir->stage[0].partition);
}

static bool allocate(struct core_fir *fir, const struct paths *paths) {
    struct arena arena = {NULL, 0};
    lay_out(fir, &arena, paths);
    fir->memory = core_take(arena.used);
    if (!fir->memory)
        return false;
    fir->bytes += sizeof *fir + arena.used;
    arena = (struct arena){fir->memory, 0};
    lay_out(fir, &arena, paths);
    return true;
}

/* The steps of a stage: written to `steps`, or only counted while that is NULL. */
struct script {
    struct fir_step *steps;
    uint32_t count;
    double done, whole;
    uint32_t partition;
};

static void add_step(struct script *script, double weight, enum fir_work work, uint32_t channel, uint32_t phase, uint32_t number) {
    script->done += weight;
    if (script->steps) {
        uint32_t due = (uint32_t)(script->partition * (script->done / script->whole));
        due = due < script->partition ? due : script->partition;
        script->steps[script->count] = (struct fir_step){(uint8_t)work, (uint8_t)channel, (uint8_t)phase, number, due ? due : 1};
    }
    script->count++;
}

static void add_transform(struct script *script, const struct fft *fft, enum fir_work work, uint32_t channel, uint32_t phase) {
    uint32_t steps = KERNEL(fft_class).steps(fft);
    for (uint32_t k = 0; k < steps; k++) {
        uint32_t forward = work == FIR_FORWARD ? k : steps - 1 - k;
        double weight = work == FIR_FORWARD ? FORWARD_WEIGHT : INVERSE_WEIGHT;
        add_step(script, weight * KERNEL(fft_class).step_size(fft, forward), work, channel, phase, k);
    }
}

static void write_script(const struct core_fir *fir, struct fir_stage *stage, const struct paths *paths, struct script *script) {
    script->count = 0;
    script->done = 0;
    for (uint32_t i = 0; i < fir->inputs; i++)
        if (fir->used_in[i])
            add_transform(script, stage->fft, FIR_FORWARD, i, 0);
    stage->forward_count = script->count;
    double tile = PRODUCT_WEIGHT * TILE_BINS * stage->partitions * paths->count;
    for (uint32_t r = 0; r < fir->phases; r++) {
        for (uint32_t from = 0; from < stage->tiles; from += stage->sum_tiles)
            add_step(script, tile * stage->sum_tiles, FIR_SUM, 0, r, from);
        for (uint32_t o = 0; o < fir->outputs; o++)
            if (fir->used_out[o])
                add_transform(script, stage->fft, FIR_INVERSE, o, r);
    }
    stage->step_count = script->count;
}

static bool take_transforms(struct core_fir *fir, const struct paths *paths) {
    for (uint32_t s = 0; fir->spectral && s < fir->stages; s++) {
        struct fir_stage *stage = &fir->stage[s];
        if (!(stage->fft = KERNEL(fft_class).new(stage->partition)))
            return false;
        fir->bytes += KERNEL(fft_class).bytes(stage->fft);
        uint32_t products = TILE_BINS * stage->partitions * (paths->count ? paths->count : 1);
        uint32_t tiles = STEP_PRODUCTS / products, most = stage->tiles / 2; /* pairs of segments are made by two steps at least */
        stage->sum_tiles = tiles < 1 ? 1 : tiles < most ? tiles : most;
        struct script counting = {.partition = stage->partition};
        if (s)
            write_script(fir, stage, paths, &counting);
    }
    return true;
}

static void write_scripts(struct core_fir *fir, const struct paths *paths) {
    for (uint32_t s = 1; s < fir->stages; s++) {
        struct fir_stage *stage = &fir->stage[s];
        struct script script = {.partition = stage->partition};
        write_script(fir, stage, paths, &script);
        script.whole = script.done;
        script.steps = stage->steps;
        write_script(fir, stage, paths, &script);
        fir->plan.stage[s].steps = stage->step_count;
    }
}

/* Tap `k` of a phase is tap k * phases + phase of the path. */
static float tap_of(const struct core_fir *fir, const struct core_fir_spec *spec, uint32_t voice, uint32_t path, size_t k) {
    size_t tap = k * fir->phases + voice % fir->phases;
    return tap < spec->count ? taps_of(spec, path)[tap] : 0;
}

static void transform_filter(const struct core_fir *fir, const struct core_fir_spec *spec, struct fir_stage *stage, uint32_t from,
                             uint32_t voice, uint32_t path, float *spectra) {
    float *re = stage->work, *im = stage->work + stage->partition;
    for (uint32_t p = 0; p < stage->partitions; p++) {
        for (uint32_t n = 0; n < stage->partition; n++) {
            re[n] = tap_of(fir, spec, voice, path, from + (size_t)p * stage->partition + n) / (float)stage->partition;
            im[n] = 0;
        }
        struct fft_forward work = {re, im, re, im, spectra + (size_t)p * TILE_FLOATS, stage->filter_stride};
        KERNEL(fft_class).forward(stage->fft, &work);
    }
}

static void set_filters(struct core_fir *fir, const struct core_fir_spec *spec, const struct paths *paths) {
    for (uint32_t voice = 0; voice < fir->voices; voice++)
        for (uint32_t i = 0; i < fir->inputs; i++) {
            uint32_t path = path_of(fir, voice, i), at = voice * fir->inputs + i;
            if (paths->same[path] != path)
                continue;
            for (uint32_t k = 0; k < fir->head_taps; k++)
                fir->heads[at][k] = tap_of(fir, spec, voice, path, k);
            for (uint32_t s = 0; fir->spectral && s < fir->stages; s++)
                transform_filter(fir, spec, &fir->stage[s], fir->plan.stage[s].from, voice, path, fir->stage[s].filters[at]);
        }
}

/* Whether each of two outputs hears its own input through one filter, and the other input through another. */
static bool is_mirrored(const struct core_fir_spec *spec, const struct paths *paths) {
    return spec->inputs == 2 && spec->outputs == 2 && paths->count == 4 && paths->same[3] == 0 && paths->same[2] == 1;
}

static bool build(struct core_fir *fir, const struct core_fir_spec *spec);

/* Build the filters of the sum and of the difference of both inputs instead: own + other, own - other. */
static bool build_mirrored(struct core_fir *fir, const struct core_fir_spec *spec) {
    size_t count = spec->count;
    float *taps = core_take(4 * count * sizeof(float));
    if (!taps)
        return false;
    for (size_t k = 0; k < count; k++) {
        taps[k] = spec->taps[k] + spec->taps[count + k];
        taps[3 * count + k] = spec->taps[k] - spec->taps[count + k];
    }
    struct core_fir_spec halves = *spec;
    halves.taps = taps;
    memset(fir->used_in, 0, sizeof fir->used_in);
    memset(fir->used_out, 0, sizeof fir->used_out);
    fir->mirrored = true;
    bool built = build(fir, &halves);
    free(taps);
    return built;
}

static bool build(struct core_fir *fir, const struct core_fir_spec *spec) {
    fir->inputs = spec->inputs;
    fir->outputs = spec->outputs;
    fir->phases = spec->phases;
    fir->voices = spec->outputs * spec->phases;
    struct paths paths = find_paths(fir, spec);
    if (is_mirrored(spec, &paths))
        return build_mirrored(fir, spec);
    fir->plan = fir_plan_for(spec, paths.count, paths.distinct, paths.used_in, paths.used_out);
    if (!fir->plan.count)
        return false;
    set_sizes(fir, spec);
    if (!take_transforms(fir, &paths) || !allocate(fir, &paths))
        return false;
    write_scripts(fir, &paths);
    set_filters(fir, spec, &paths);
    return true;
}

struct core_filter *KERNEL(fir_new)(const struct core_fir_spec *spec) {
    struct core_fir *fir = in_range(spec) ? core_take(sizeof *fir) : NULL;
    if (!fir)
        return NULL;
    fir->filter.class = &KERNEL(fir_filter);
    if (build(fir, spec))
        return &fir->filter;
    KERNEL(fir_free)(fir);
    return NULL;
}

void KERNEL(fir_free)(void *self) {
    struct core_fir *fir = self;
    for (uint32_t s = 0; s < FIR_MAX_STAGES; s++)
        KERNEL(fft_class).free(fir->stage[s].fft);
    free(fir->memory);
    free(fir);
}

void KERNEL(fir_reset)(void *self) {
    struct core_fir *fir = self;
    size_t margin = fir->stage[0].partition;
    for (uint32_t i = 0; i < fir->inputs; i++)
        memset(fir->history[i] - margin, 0, margin * sizeof(float));
    for (uint32_t s = 0; s < fir->stages; s++) {
        struct fir_stage *stage = &fir->stage[s];
        stage->newest = stage->finished = stage->next = stage->position = stage->end = 0;
        stage->side = 0;
        stage->silent = true;
        stage->primed = stage->turn = stage->early_known = false;
    }
    fir->at = fir->position = fir->ahead = 0;
}

size_t KERNEL(fir_bytes)(const void *self) {
    const struct core_fir *fir = self;
    return fir->bytes;
}

uint32_t KERNEL(fir_stages)(const struct core_filter *filter, struct core_fir_stage *stages) {
    const struct core_fir *fir = (const struct core_fir *)filter;
    memcpy(stages, fir->plan.stage, fir->plan.count * sizeof *stages);
    return fir->plan.count;
}
