#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include "cover.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "count.h"
#include "fade.h"
#include "kernels.h"
#include "memory.h"
#include "wrap.h"

struct core_cover {
    struct core_cover_setup setup;
    /* The engine thread's. */
    struct core_exchange *life;
    uint64_t written;   /* frames that this life was given */
    uint64_t steady;    /* frames for which it has kept up since the last miss */
    int stuck;          /* it gets no more */
    float gain;         /* of the child's output, against what covers for it */
    struct residue residue;
    float difference[SIGRACK_MAX_CHANNELS]; /* of the last frame from what stands for the child */
    float *history;     /* [outputs][length]: what stands for it, from now to as late as its output is */
    uint32_t length;    /* a power of two */
    uint32_t behind;    /* how late that is, in frames that go out */
    uint64_t processed; /* frames that went out */
    float *room;        /* [outputs][max_frames * ratio] */
    float *planes[SIGRACK_MAX_CHANNELS];
    /* Between main and engine. */
    alignas(64) _Atomic(struct core_exchange *) next;
    _Atomic(struct core_exchange *) retired;
    /* Written by the engine thread. */
    alignas(64) _Atomic uint64_t wet, dry, misses, lives, stucks, lies, bad, unset, soundless;
    _Atomic uint32_t is_wet;
};

uint32_t core_cover_latency(uint32_t quantum, uint32_t max_frames, int even) {
    if (even && quantum % max_frames == 0)
        return quantum;
    if (even && max_frames % quantum == 0)
        return max_frames;
    return quantum + max_frames;
}

/* Whether the input itself can stand for the child. */
static int keeps_shape(const struct core_cover_setup *setup) { return setup->outputs == setup->channels && setup->ratio == 1; }

static int in_range(const struct core_cover_setup *setup) {
    return setup->channels && setup->channels <= SIGRACK_MAX_CHANNELS && setup->outputs && setup->outputs <= SIGRACK_MAX_CHANNELS &&
           setup->ratio && setup->ratio <= COVER_MOST_RATIO && setup->max_frames && setup->latency_frames >= setup->max_frames &&
           setup->latency_frames <= COVER_LATEST && setup->late_frames <= COVER_LATEST;
}

struct core_cover *core_cover_new(const struct core_cover_setup *setup) {
    struct core_cover *cover = in_range(setup) ? core_take(sizeof *cover) : NULL;
    if (!cover)
        return NULL;
    uint32_t made = setup->max_frames * setup->ratio;
    cover->setup = *setup;
    cover->behind = setup->latency_frames * setup->ratio + (setup->fallback ? 0 : setup->late_frames);
    cover->length = core_power_of_two(cover->behind + made);
    cover->history = core_take((size_t)setup->outputs * cover->length * sizeof(float));
    cover->room = core_take((size_t)setup->outputs * made * sizeof(float));
    if (!cover->length || !cover->history || !cover->room) {
        core_cover_free(cover);
        return NULL;
    }
    for (uint32_t c = 0; c < setup->outputs; c++)
        cover->planes[c] = cover->room + (size_t)c * made;
    return cover;
}

void core_cover_free(struct core_cover *cover) {
    if (!cover)
        return;
    free(cover->history);
    free(cover->room);
    free(cover);
}

int core_cover_fits(const struct core_cover *cover, const struct core_exchange *life) {
    const struct core_cover_setup *setup = &cover->setup;
    return life->channels == setup->channels && life->outputs == setup->outputs && life->ratio == setup->ratio &&
           life->quantum <= setup->latency_frames && (uint64_t)setup->latency_frames + setup->max_frames <= life->capacity;
}

struct core_exchange *core_cover_give(struct core_cover *cover, struct core_exchange *life) {
    return atomic_exchange(&cover->next, life);
}

struct core_exchange *core_cover_collect(struct core_cover *cover) { return atomic_exchange(&cover->retired, NULL); }

void core_cover_reset(void *self) {
    struct core_cover *cover = self;
    cover->residue.left = 0;
    if (cover->setup.reset)
        cover->setup.reset(cover->setup.self);
}

/* Note how far the last of so many frames is from what stands for the child: what a miss begins with. */
static void note_difference(struct core_cover *cover, float *const *out, uint32_t frames) {
    uint64_t at = cover->processed + frames - 1 + cover->length - cover->behind;
    for (uint32_t c = 0; c < cover->setup.outputs; c++)
        cover->difference[c] = out[c][frames - 1] - cover->history[(size_t)c * cover->length + at % cover->length];
}

static void miss(struct core_cover *cover, float *const *out, uint32_t played) {
    if (played)
        note_difference(cover, out, played);
    residue_begin(&cover->residue, cover->difference, cover->setup.outputs, cover->setup.fade_frames);
    cover->gain = 0;
    count_add(&cover->misses, 1);
}

static void look_for_life(struct core_cover *cover, uint64_t frame) {
    if (!atomic_load_explicit(&cover->next, memory_order_relaxed) || atomic_load_explicit(&cover->retired, memory_order_acquire))
        return;
    struct core_exchange *next = atomic_exchange(&cover->next, NULL);
    if (!next)
        return;
    atomic_store_explicit(&cover->retired, cover->life, memory_order_release);
    cover->life = next;
    atomic_store_explicit(&next->host->began, frame, memory_order_relaxed);
    cover->written = cover->steady = 0;
    cover->stuck = 0;
    atomic_store_explicit(&cover->soundless, 0, memory_order_relaxed);
    count_add(&cover->lives, 1);
    if (!cover->processed)
        cover->gain = 1; /* what is not there yet is the silence before the beginning */
    else if (cover->gain > 0)
        miss(cover, NULL, 0);
}

/* Keep what may have to stand for the child's output of this block. */
static void remember(struct core_cover *cover, const struct sigrack_block *block) {
    const struct core_cover_setup *setup = &cover->setup;
    uint32_t made = block->frames * setup->ratio;
    float *const *planes = cover->planes;
    struct sigrack_block own = *block;
    own.out = planes;
    own.channels = setup->channels > setup->outputs ? setup->channels : setup->outputs;
    int silent = setup->fallback ? setup->fallback(setup->self, &own) != 0 : setup->silent || !keeps_shape(setup);
    for (uint32_t c = 0; c < setup->outputs; c++) {
        if (silent)
            memset(planes[c], 0, made * sizeof(float));
        const float *from = setup->fallback || silent ? planes[c] : block->in[c];
        wrap_in(cover->history + (size_t)c * cover->length, cover->length, cover->processed, from, made);
    }
}

/* Wait until the child has done so much, or is gone. Returns what it has done. [the caller of freewheel] */
static uint64_t wait_for(struct core_exchange *life, uint64_t needed) {
    const struct timespec pause = {0, 50000};
    for (uint32_t looks = 0;; looks++) {
        uint32_t lost = atomic_load(&life->lost);
        uint64_t done = atomic_load_explicit(&life->child->done, memory_order_acquire);
        if (done >= needed || lost)
            return done;
        if (looks < 100)
            sched_yield();
        else
            nanosleep(&pause, NULL);
    }
}

/* Give the life no more input, and count why. Returns 0. */
static int give_up(struct core_cover *cover, _Atomic uint64_t *count) {
    if (!cover->stuck)
        count_add(count, 1);
    cover->stuck = 1;
    return 0;
}

/* Whether the child can have done so much; one that claims what cannot be has overwritten its counters, and perhaps its output. */
static int is_possible(struct core_cover *cover, uint64_t done) { return done <= cover->written || give_up(cover, &cover->lies); }

static int has_room(struct core_cover *cover, uint64_t done, uint32_t frames) {
    return cover->written + frames - done <= cover->life->capacity || give_up(cover, &cover->stucks);
}

/* Give the block to the child. Returns for how many of the frames that are to be played its output is there. */
static uint32_t exchange(struct core_cover *cover, const float *const *in, uint32_t frames) {
    struct core_exchange *life = cover->life;
    if (!life || cover->stuck)
        return 0;
    uint64_t done = atomic_load_explicit(&life->child->done, memory_order_acquire), before = cover->written;
    if (!is_possible(cover, done) || !has_room(cover, done, frames))
        return 0;
    exchange_write(life, before, in, frames);
    cover->written = before + frames;
    if (cover->setup.patient)
        done = wait_for(life, cover->written > cover->setup.latency_frames ? cover->written - cover->setup.latency_frames : 0);
    if (!is_possible(cover, done))
        return 0;
    uint64_t have = done + cover->setup.latency_frames; /* frames of this life that could be played, its first silence included */
    return have <= before ? 0 : have - before < frames ? (uint32_t)(have - before) : frames;
}

/* Hand the block's parameter changes on, to the frames of this life that they belong to. */
static void forward_events(struct core_cover *cover, const struct sigrack_block *block) {
    for (uint32_t i = 0; cover->life && i < block->event_count; i++) {
        const struct sigrack_event *event = &block->events[i];
        if (!exchange_set(cover->life, cover->written + event->offset, event->param, event->value))
            count_add(&cover->unset, 1);
    }
}

static int is_sound(const float *samples, uint32_t frames) {
    int strange = 0;
    for (uint32_t i = 0; i < frames; i++)
        strange |= !(fabsf(samples[i]) <= COVER_LOUDEST);
    return !strange;
}

/* Put what the child has made of the `frames` frames from frame `at` of its life on, as late as it is, into `out`; before it began
   there is silence. Returns 0 if it is no sound. */
static int take_wet(const struct core_cover *cover, float *const *out, uint64_t at, uint32_t frames) {
    const struct core_exchange *life = cover->life;
    uint32_t ratio = cover->setup.ratio, ring = life->capacity * ratio;
    uint32_t latency = cover->setup.latency_frames, silent = at < latency ? (uint32_t)(latency - at) : 0;
    int sound = 1;
    silent = (silent < frames ? silent : frames) * ratio;
    for (uint32_t c = 0; c < cover->setup.outputs; c++) {
        memset(out[c], 0, silent * sizeof(float));
        wrap_out(out[c] + silent, life->out + (size_t)c * ring, ring, (at - latency) * ratio + silent, frames * ratio - silent);
        sound &= is_sound(out[c], frames * ratio);
    }
    return sound;
}

/* Put what stands for the child's frames from .. from + frames - 1 of this block into `planes`. */
static void take_dry(const struct core_cover *cover, float *const *planes, uint32_t from, uint32_t frames) {
    uint64_t at = cover->processed + from + cover->length - cover->behind;
    for (uint32_t c = 0; c < cover->setup.outputs; c++)
        wrap_out(planes[c] + from, cover->history + (size_t)c * cover->length, cover->length, at, frames);
}

/* What the child's output is faded in over, or stands in for it. */
static void substitute(struct core_cover *cover, float *const *planes, uint32_t from, uint32_t frames) {
    take_dry(cover, planes, from, frames);
    residue_add(&cover->residue, planes, cover->setup.outputs, from, frames);
}

/* Let the child's output be heard for `frames` frames: alone, or on its way in. */
static void play_wet(struct core_cover *cover, float *const *out, uint32_t frames) {
    count_add(&cover->wet, frames);
    if (cover->gain >= 1.0f)
        return;
    substitute(cover, cover->planes, 0, frames);
    float step = 1.0f / (float)cover->setup.fade_frames;
    uint32_t left = (uint32_t)((1.0f - cover->gain) * (float)cover->setup.fade_frames + 0.5f);
    uint32_t moving = left < frames ? left : frames;
    for (uint32_t c = 0; c < cover->setup.outputs; c++)
        kernels_chosen()->crossfade(out[c], cover->planes[c], moving, cover->gain, step);
    cover->gain = left > moving ? cover->gain + (float)moving * step : 1.0f;
}

int core_cover_process(void *self, const struct sigrack_block *block) {
    struct core_cover *cover = self;
    uint32_t ratio = cover->setup.ratio, frames = block->frames, made = frames * ratio;
    look_for_life(cover, block->frame);
    remember(cover, block);
    uint64_t at = cover->written;
    forward_events(cover, block);
    uint32_t have = exchange(cover, block->in, frames);
    if (have && !take_wet(cover, block->out, at, have)) {
        count_add(&cover->bad, 1);
        count_add(&cover->soundless, 1);
        have = 0;
    } else if (have) {
        atomic_store_explicit(&cover->soundless, 0, memory_order_relaxed);
    }
    cover->steady = have == frames ? cover->steady + made : 0;
    uint64_t warm = (uint64_t)cover->setup.latency_frames + cover->setup.warm_frames;
    int wet = cover->gain > 0 || (cover->steady >= cover->setup.fade_frames && at >= warm);
    uint32_t play = wet ? have * ratio : 0;
    if (play)
        play_wet(cover, block->out, play);
    if (play < made) {
        if (cover->gain > 0)
            miss(cover, block->out, play);
        substitute(cover, block->out, play, made - play);
        count_add(&cover->dry, made - play);
    }
    note_difference(cover, block->out, made);
    cover->processed += made;
    atomic_store_explicit(&cover->is_wet, play == made, memory_order_relaxed);
    return 0;
}

void core_cover_stats(const struct core_cover *cover, struct core_cover_stats *stats) {
    stats->wet = atomic_load(&cover->wet);
    stats->dry = atomic_load(&cover->dry);
    stats->misses = atomic_load(&cover->misses);
    stats->lives = atomic_load(&cover->lives);
    stats->stuck = atomic_load(&cover->stucks);
    stats->lies = atomic_load(&cover->lies);
    stats->bad = atomic_load(&cover->bad);
    stats->unset = atomic_load(&cover->unset);
    stats->soundless = atomic_load(&cover->soundless);
    stats->is_wet = atomic_load(&cover->is_wet);
}
