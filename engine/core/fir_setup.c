/* fir_setup.c - what the convolver does on the control thread: check, allocate, transform the taps. Compiled once per level. */
#include "fir_state.h"
#include "memory.h"

#include <string.h>

/* Beyond this the direct part grows, while the others hardly shrink. */
#define CHOSEN_MAX_PARTITION 8192

/* Hands out pieces of one block of memory, or only counts them while `base` is NULL. */
struct arena {
    float *base;
    size_t used; /* floats */
};

static float *piece(struct arena *arena, size_t floats) {
    const size_t line = CORE_CACHE_LINE / sizeof(float);
    size_t at = arena->used;
    arena->used += (floats + line - 1) / line * line;
    return arena->base ? arena->base + at : NULL;
}

/* Direct taps cost P per frame and path, the partitions 4 * count / P: the sum is least near P = 2 * sqrt(count). */
static uint32_t choose_partition(uint32_t count) {
    uint32_t partition = FFT_MIN_BINS;
    while (partition < CHOSEN_MAX_PARTITION && (uint64_t)partition * partition < 2 * (uint64_t)count)
        partition *= 2;
    return partition;
}

static bool in_range(uint32_t inputs, uint32_t outputs, uint32_t count, const float *taps, uint32_t partition) {
    if (!inputs || inputs > FIR_MAX_CHANNELS || !outputs || outputs > FIR_MAX_CHANNELS)
        return false;
    if (!count || count > FIR_MAX_TAPS || !taps)
        return false;
    return partition >= FFT_MIN_BINS && partition <= FFT_MAX_BINS && !(partition & (partition - 1));
}

static bool all_zero(const float *taps, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (taps[i] != 0)
            return false;
    return true;
}

static void set_sizes(struct core_fir *fir, uint32_t inputs, uint32_t outputs, uint32_t count, uint32_t partition) {
    fir->inputs = inputs;
    fir->outputs = outputs;
    fir->partition = partition;
    fir->partitions = (count + partition - 1) / partition;
    fir->head_taps = count < partition ? count : partition;
    fir->tiles = partition / TILE_BINS;
    /* An odd number of slots keeps neighbouring tiles from competing for the same lines of a cache. */
    fir->tile_stride = (size_t)(fir->partitions | 1) * TILE_FLOATS;
}

/* Place every array of the convolver in `arena`. */
static void lay_out(struct core_fir *fir, struct arena *arena, bool used[FIR_MAX_CHANNELS][FIR_MAX_CHANNELS]) {
    size_t spectra = fir->partitions > 1 ? fir->tiles * fir->tile_stride : 0;
    for (uint32_t o = 0; o < fir->outputs; o++) {
        for (uint32_t i = 0; i < fir->inputs; i++) {
            if (!used[o][i])
                continue;
            fir->in[i].used = fir->out[o].used = true;
            fir->paths[o][i].head = piece(arena, fir->head_taps);
            fir->paths[o][i].spectra = piece(arena, spectra);
        }
    }
    for (uint32_t i = 0; i < fir->inputs; i++) {
        fir->in[i].history = piece(arena, 2 * (size_t)fir->partition + SPAN_FRAMES);
        fir->in[i].spectra = piece(arena, fir->in[i].used ? spectra : 0);
    }
    for (uint32_t o = 0; o < fir->outputs; o++) {
        fir->out[o].re = piece(arena, fir->partition);
        fir->out[o].im = piece(arena, fir->partition);
        fir->out[o].tail = piece(arena, fir->partition);
    }
    fir->work = piece(arena, 2 * (size_t)fir->partition);
}

static bool allocate(struct core_fir *fir, bool used[FIR_MAX_CHANNELS][FIR_MAX_CHANNELS]) {
    struct arena arena = {NULL, 0};
    lay_out(fir, &arena, used);
    if (arena.used > (SIZE_MAX / 2) / sizeof(float))
        return false;
    size_t size = arena.used * sizeof(float);
    fir->memory = core_take(size);
    if (!fir->memory)
        return false;
    if (fir->partitions > 1 && !(fir->fft = KERNEL(fft_class).new(fir->partition)))
        return false;
    fir->bytes = sizeof *fir + size + (fir->fft ? KERNEL(fft_class).bytes(fir->fft) : 0);
    arena = (struct arena){fir->memory, 0};
    lay_out(fir, &arena, used);
    return true;
}

static void transform_path(struct core_fir *fir, struct fir_path *path, const float *taps, uint32_t count) {
    float *re = fir->work, *im = fir->work + fir->partition;
    for (uint32_t p = 0; p < fir->partitions; p++) {
        for (uint32_t n = 0; n < fir->partition; n++) {
            size_t tap = (size_t)p * fir->partition + n;
            re[n] = tap < count ? taps[tap] / (float)fir->partition : 0;
            im[n] = 0;
        }
        KERNEL(fft_class).forward(fir->fft, re, im);
        fir_put(fir, path->spectra, p, re, im);
    }
}

static void set_taps(struct core_fir *fir, struct fir_path *path, const float *taps, uint32_t count) {
    memcpy(path->head, taps, fir->head_taps * sizeof(float));
    if (fir->fft)
        transform_path(fir, path, taps, count);
}

struct core_fir *KERNEL(fir_new)(uint32_t inputs, uint32_t outputs, uint32_t count, const float *taps, uint32_t partition) {
    if (!partition)
        partition = choose_partition(count);
    if (!in_range(inputs, outputs, count, taps, partition))
        return NULL;
    struct core_fir *fir = core_take(sizeof *fir);
    if (!fir)
        return NULL;
    bool used[FIR_MAX_CHANNELS][FIR_MAX_CHANNELS] = {{false}};
    for (uint32_t o = 0; o < outputs; o++)
        for (uint32_t i = 0; i < inputs; i++)
            used[o][i] = !all_zero(taps + ((size_t)o * inputs + i) * count, count);
    set_sizes(fir, inputs, outputs, count, partition);
    if (!allocate(fir, used)) {
        KERNEL(fir_free)(fir);
        return NULL;
    }
    for (uint32_t o = 0; o < outputs; o++)
        for (uint32_t i = 0; i < inputs; i++)
            if (used[o][i])
                set_taps(fir, &fir->paths[o][i], taps + ((size_t)o * inputs + i) * count, count);
    return fir;
}

void KERNEL(fir_free)(struct core_fir *fir) {
    if (!fir)
        return;
    KERNEL(fft_class).free(fir->fft);
    free(fir->memory);
    free(fir);
}

size_t KERNEL(fir_bytes)(const struct core_fir *fir) { return fir->bytes; }
