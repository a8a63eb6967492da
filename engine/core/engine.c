#include "engine.h"

#include <stdlib.h>
#include <string.h>

#include "bus.h"
#include "fpu.h"
#include "kernels.h"
#include "memory.h"
#include "ticks.h"

#define MOST_STEPS 255u /* the progress word has eight bits for them */

/* The wish for a dip travels in the lowest bit of the list's address, so that one cannot be seen without the other. */
#define NEXT_DIPS ((uintptr_t)1)

static struct core_run_list *list_in(uintptr_t next) { return (struct core_run_list *)(next & ~NEXT_DIPS); }

struct core_engine *core_engine_new(uint32_t channels, uint32_t max_frames, uint32_t dip_frames) {
    if (!channels || channels > SIGRACK_MAX_CHANNELS || !max_frames)
        return NULL;
    struct core_engine *engine = core_take(sizeof *engine);
    if (!engine)
        return NULL;
    engine->channels = engine->inputs = engine->outputs = channels;
    for (uint32_t c = 0; c < channels; c++)
        engine->out[c] = (uint8_t)c;
    engine->max_frames = max_frames;
    engine->ratio = 1;
    engine->dip_frames = dip_frames ? dip_frames : 1;
    engine->silence = core_take(max_frames * sizeof(float));
    if (engine->silence && core_engine_set_ratio(engine, 1))
        return engine;
    core_engine_free(engine);
    return NULL;
}

int core_engine_set_ends(struct core_engine *engine, uint32_t inputs, uint32_t outputs, const uint8_t *out) {
    if (!inputs || inputs > engine->channels || !outputs || outputs > engine->channels)
        return 0;
    for (uint32_t c = 0; c < outputs; c++)
        if (out[c] >= engine->channels)
            return 0;
    engine->inputs = inputs;
    engine->outputs = outputs;
    memcpy(engine->out, out, outputs);
    return 1;
}

int core_engine_set_ratio(struct core_engine *engine, uint32_t ratio) {
    if (!ratio || ratio > ENGINE_MAX_RATIO)
        return 0;
    size_t size = (size_t)engine->channels * engine->max_frames * ratio * sizeof(float);
    float *bus[2] = {core_take(size), core_take(size)};
    if (!bus[0] || !bus[1]) {
        free(bus[0]);
        free(bus[1]);
        return 0;
    }
    for (int half = 0; half < 2; half++) {
        free(engine->bus[half]);
        engine->bus[half] = bus[half];
    }
    engine->dip_frames = engine->dip_frames / engine->ratio * ratio;
    engine->ratio = ratio;
    return 1;
}

void core_engine_fade_in(struct core_engine *engine) {
    engine->dip = DIP_IN;
    engine->dip_left = engine->dip_frames;
}

void core_engine_fade_out(struct core_engine *engine) { atomic_store(&engine->ending, 1); }

void core_engine_free(struct core_engine *engine) {
    if (!engine)
        return;
    core_run_list_free(engine->current);
    core_run_list_free(list_in(atomic_load(&engine->next)));
    core_run_list_free(atomic_load(&engine->retired));
    free(engine->bus[0]);
    free(engine->bus[1]);
    free(engine->silence);
    free(engine);
}

struct core_run_list *core_run_list_new(const struct core_step *steps, uint32_t count) {
    if (count > MOST_STEPS)
        return NULL;
    struct core_run_list *list = core_take(sizeof *list + count * sizeof *steps);
    if (!list)
        return NULL;
    list->count = count;
    list->ratio = list->idle = 1;
    for (uint32_t i = 0; i < count; i++) {
        list->idle &= !steps[i].slot && !steps[i].tap;
        if (steps[i].slot)
            list->ratio *= steps[i].slot->setup.ratio;
    }
    if (count)
        memcpy(list->steps, steps, count * sizeof *steps);
    return list;
}

void core_run_list_free(struct core_run_list *list) { free(list); }

struct core_run_list *core_engine_publish(struct core_engine *engine, struct core_run_list *list, int dip) {
    uintptr_t before = atomic_load(&engine->next), next;
    if (list)
        list->serial = ++engine->published;
    do /* a dip that was wanted by a list that never ran is still wanted */
        next = list ? (uintptr_t)list | (dip ? NEXT_DIPS : 0) | (before & NEXT_DIPS) : 0;
    while (!atomic_compare_exchange_weak(&engine->next, &before, next));
    return list_in(before);
}

struct core_run_list *core_engine_collect(struct core_engine *engine) { return atomic_exchange(&engine->retired, NULL); }

static void use(struct core_engine *engine, struct core_run_list *list) {
    if (!list)
        return;
    atomic_store_explicit(&engine->retired, engine->current, memory_order_release);
    engine->current = list;
    atomic_fetch_add_explicit(&engine->applied, 1, memory_order_relaxed);
    atomic_store_explicit(&engine->running, list->serial, memory_order_release);
}

/* Begin to fade out; coming back from the last dip, turn round at the gain that has been reached. */
static void dip_out(struct core_engine *engine) {
    engine->dip_left = engine->dip == DIP_IN ? engine->dip_frames - engine->dip_left : engine->dip_frames;
    engine->dip = DIP_OUT;
}

/* Decide what a published list, or the wish to end, means for this block. */
static void look_for_next(struct core_engine *engine) {
    int ending = atomic_load_explicit(&engine->ending, memory_order_relaxed);
    if (engine->dip == DIP_OUT) {
        if (engine->dip_left || ending)
            return;
        use(engine, list_in(atomic_exchange(&engine->next, 0)));
        engine->dip = DIP_IN;
        engine->dip_left = engine->dip_frames;
        return;
    }
    if (ending) {
        dip_out(engine);
        return;
    }
    uintptr_t next = atomic_load_explicit(&engine->next, memory_order_acquire);
    if (!next || atomic_load_explicit(&engine->retired, memory_order_acquire))
        return;
    if (engine->current && next & NEXT_DIPS) {
        dip_out(engine);
    } else if (atomic_compare_exchange_strong(&engine->next, &next, 0)) { /* else another was published just now: next block */
        use(engine, list_in(next));
    }
}

/* Fade the block out or in. */
static void apply_dip(struct core_engine *engine, float *const *out, uint32_t frames) {
    if (engine->dip == DIP_NONE)
        return;
    float step = 1.0f / (float)engine->dip_frames;
    uint32_t moving = engine->dip_left < frames ? engine->dip_left : frames;
    float done = (float)(engine->dip_frames - engine->dip_left) * step;
    for (uint32_t c = 0; c < engine->outputs; c++) {
        if (engine->dip == DIP_OUT) {
            kernels_chosen()->ramp(out[c], moving, 1.0f - done, -step);
            memset(out[c] + moving, 0, (frames - moving) * sizeof(float));
        } else {
            kernels_chosen()->ramp(out[c], moving, done, step);
        }
    }
    engine->dip_left -= moving;
    if (engine->dip == DIP_IN && !engine->dip_left)
        engine->dip = DIP_NONE;
}

/* What has gone out, once the dip is in it. */
static void watch_output(struct core_engine *engine, float *const *out, uint32_t frames) {
    uint64_t clipped = 0;
    for (uint32_t c = 0; c < engine->outputs; c++)
        clipped += kernels_chosen()->clipped(out[c], frames);
    if (clipped)
        atomic_fetch_add_explicit(&engine->clipped, clipped, memory_order_relaxed);
    if (engine->dip == DIP_OUT && !engine->dip_left && atomic_load_explicit(&engine->ending, memory_order_relaxed))
        atomic_store_explicit(&engine->silent, 1, memory_order_relaxed);
}

static void set_progress(struct core_engine *engine, uint64_t block, uint32_t step) {
    atomic_store_explicit(&engine->progress, block << 8 | step, memory_order_relaxed);
}

static void begin(const struct core_engine *engine, struct bus *bus, const float *const *in) {
    bus->channels = engine->channels;
    for (uint32_t c = 0; c < engine->channels; c++) {
        size_t at = (size_t)c * engine->max_frames * engine->ratio;
        bus->now[c] = c < engine->inputs ? in[c] : engine->silence;
        bus->next[c] = engine->bus[0] + at;
        bus->spare[c] = engine->bus[1] + at;
    }
}

/* Run the steps of the list in use. Each counts frames at the rate at its place. */
static void run_steps(struct core_engine *engine, struct bus *bus, uint32_t frames) {
    const struct core_run_list *list = engine->current;
    uint64_t frame = atomic_load_explicit(&engine->frame, memory_order_relaxed);
    uint64_t block = atomic_load_explicit(&engine->blocks, memory_order_relaxed);
    fpu_state flushing = fpu_get();
    for (uint32_t i = 0; i < list->count; i++) {
        const struct core_step *step = &list->steps[i];
        set_progress(engine, block, i + 1);
        if (step->slot) {
            frames = bus_run_slot(bus, step->slot, frames, frame);
            frame *= step->slot->setup.ratio;
            fpu_set(flushing); /* whatever the plugin has left there */
        } else if (step->tap) {
            bus_run_tap(bus, step->tap, frames, frame);
        } else {
            faders_run(step->faders, bus, frames);
        }
    }
}

static void count_block(struct core_engine *engine, uint32_t frames) {
    uint64_t block = atomic_load_explicit(&engine->blocks, memory_order_relaxed);
    set_progress(engine, block + 1, 0);
    atomic_store_explicit(&engine->frame, atomic_load_explicit(&engine->frame, memory_order_relaxed) + frames,
                          memory_order_relaxed);
    if (!block)
        atomic_store_explicit(&engine->first_block_ns, core_now_ns(), memory_order_relaxed);
    atomic_store_explicit(&engine->blocks, block + 1, memory_order_release);
    if (engine->beat)
        atomic_store_explicit(engine->beat, block + 1, memory_order_relaxed);
}

/* Let `bus` hold the block's result; 0: silence. Without a list the input passes. */
static int run(struct core_engine *engine, struct bus *bus, uint32_t frames) {
    const struct core_run_list *list = engine->current;
    if (bus_clean(bus, engine->inputs, frames))
        atomic_fetch_add_explicit(&engine->bad_input, 1, memory_order_relaxed);
    if ((list ? list->ratio : 1) != engine->ratio)
        return 0;
    if (list)
        run_steps(engine, bus, frames);
    return 1;
}

void core_engine_block(struct core_engine *engine, const float *const *in, float *const *out, uint32_t frames) {
    fpu_state before = fpu_get();
    fpu_set(FPU_CLEAN); /* whatever a hook has left there, where it runs on this thread */
    look_for_next(engine);
    struct bus bus;
    begin(engine, &bus, in);
    int heard = run(engine, &bus, frames);
    size_t size = (size_t)frames * engine->ratio * sizeof(float);
    for (uint32_t c = 0; c < engine->outputs; c++) {
        if (heard)
            memcpy(out[c], bus.now[engine->out[c]], size);
        else
            memset(out[c], 0, size);
    }
    apply_dip(engine, out, frames * engine->ratio);
    watch_output(engine, out, frames * engine->ratio);
    count_block(engine, frames);
    fpu_set(before);
}

int core_engine_skip(struct core_engine *engine, uint64_t frames) {
    const struct core_run_list *list = engine->current;
    if (!list || !list->idle || engine->dip != DIP_NONE || atomic_load(&engine->next))
        return 0;
    uint64_t frame = atomic_load_explicit(&engine->frame, memory_order_relaxed);
    atomic_store_explicit(&engine->frame, frame + frames, memory_order_relaxed);
    return 1;
}

void core_engine_stats(const struct core_engine *engine, struct core_engine_stats *stats) {
    stats->frame = atomic_load(&engine->frame);
    stats->blocks = atomic_load(&engine->blocks);
    stats->progress = atomic_load(&engine->progress);
    stats->applied = atomic_load(&engine->applied);
    stats->running = atomic_load(&engine->running);
    stats->bad_input = atomic_load(&engine->bad_input);
    stats->clipped = atomic_load(&engine->clipped);
    stats->silent = atomic_load(&engine->silent);
    stats->first_block_ns = atomic_load(&engine->first_block_ns);
}

const _Atomic uint64_t *core_engine_frame(const struct core_engine *engine) { return &engine->frame; }
