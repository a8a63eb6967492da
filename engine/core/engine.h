/* engine.h - one block = one pass over the run list. */
#ifndef SIGRACK_ENGINE_H
#define SIGRACK_ENGINE_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "core.h"
#include "faders.h"
#include "slot.h"
#include "tap.h"

#define ENGINE_MAX_RATIO 256

/* One entry of a run list: a slot, a tap or faders, the others are NULL. All are borrowed. */
struct core_step {
    struct core_slot *slot;
    struct core_tap *tap;
    struct core_faders *faders;
};

/* Immutable once published. */
struct core_run_list {
    uint64_t serial; /* rises with each publishing */
    uint32_t count;
    int idle;       /* nothing in it needs blocks: no slot and no tap */
    uint32_t ratio; /* frames that come out for each that goes in: the product of its slots' */
    struct core_step steps[];
};

enum engine_dip { DIP_NONE, DIP_OUT, DIP_IN };

struct core_engine {
    alignas(64) _Atomic uintptr_t next; /* the list that is published, not yet running, and whether it wants a dip */
    uint64_t published;                 /* lists so far; the main loop's */
    _Atomic int ending;                 /* the sound is to fade out for good */
    /* The engine thread's. */
    alignas(64) struct core_run_list *current;
    float *bus[2];  /* [channels][max_frames * ratio] */
    float *silence; /* max_frames, for channels that nothing comes in for */
    uint32_t channels, inputs, outputs; /* of the bus, the source, the sink */
    uint8_t out[SIGRACK_MAX_CHANNELS];  /* which go to the sink */
    uint32_t max_frames, dip_frames;
    uint32_t ratio; /* frames that come out for each that goes in */
    enum engine_dip dip;
    uint32_t dip_left;
    _Atomic uint64_t *beat; /* gets the number of blocks, too, for who watches this process; may be NULL */
    /* Written by the engine thread, read by anyone. */
    alignas(64) _Atomic uint64_t frame;            /* of the next block */
    _Atomic uint64_t blocks;
    _Atomic uint64_t progress;                     /* block << 8 | step number + 1; 0 in the low byte between blocks */
    _Atomic uint64_t bad_input;                    /* blocks whose input was not finite */
    _Atomic uint64_t clipped;                      /* samples at full scale or beyond that went out */
    _Atomic uint64_t silent;                       /* 1: it has faded out */
    _Atomic uint64_t applied;                      /* run lists taken into use */
    _Atomic uint64_t running;                      /* serial of the list in use: what only older lists hold is out of the engine */
    _Atomic int64_t first_block_ns;                /* CLOCK_MONOTONIC at the end of the first block */
    alignas(64) _Atomic(struct core_run_list *) retired; /* may be freed by main */
};

/* A bus of `channels`, all of which come in and go out. NULL when out of memory or range. [control] */
CORE_API struct core_engine *core_engine_new(uint32_t channels, uint32_t max_frames, uint32_t dip_frames);
/* Let something come in for the first `inputs` channels of the bus only, the others begin silent; and let those in `out` go out, in
   that order. Returns 0 when out of range. [control, before the first block] */
CORE_API int core_engine_set_ends(struct core_engine *engine, uint32_t inputs, uint32_t outputs, const uint8_t *out);
/* Let `ratio` frames come out for each that goes in, 1 to ENGINE_MAX_RATIO; 1 unless this was called. A run list of another ratio is
   not played: silence is. A dip is as long as before. Returns 0 when out of memory or range. [control, before the first block] */
CORE_API int core_engine_set_ratio(struct core_engine *engine, uint32_t ratio);
/* Begin with a fade from silence, as long as one half of a dip. [control, before the first block, after the ratio is set] */
CORE_API void core_engine_fade_in(struct core_engine *engine);
/* Fade to silence, in as much time, and stay there: `silent` in the stats tells when. No list is taken into use any more. [main] */
CORE_API void core_engine_fade_out(struct core_engine *engine);
/* The engine must not be running; frees its run lists, not their slots and taps. [control] */
CORE_API void core_engine_free(struct core_engine *engine);

/* Copies `steps`. NULL when out of memory or more than 255. [control] */
CORE_API struct core_run_list *core_run_list_new(const struct core_step *steps, uint32_t count);
CORE_API void core_run_list_free(struct core_run_list *list);

/* Make `list` the next one, with the next serial, from a block boundary on: at once, or (`dip`) between a fade to silence and back. Takes the list over;
   returns one that was published and never ran, or NULL: the caller's to free. [main] */
CORE_API struct core_run_list *core_engine_publish(struct core_engine *engine, struct core_run_list *list, int dip);
/* A list that the engine has left for good, or NULL: the caller's to free. While one is uncollected no other is taken into use, so
   at most one runs and one waits beside the retired one. [main] */
CORE_API struct core_run_list *core_engine_collect(struct core_engine *engine);

/* Run one block of at most `max_frames` frames, from `inputs` planes; `outputs` planes get `ratio` times as many. [engine; in freewheel the caller's thread] */
CORE_API void core_engine_block(struct core_engine *engine, const float *const *in, float *const *out, uint32_t frames);

/* Let `frames` frames of silence pass without a block. Returns 1; 0 when blocks must be run for them: the run list holds a
   slot or a tap, or another one waits. [engine; in freewheel the caller's thread] */
CORE_API int core_engine_skip(struct core_engine *engine, uint64_t frames);

struct core_engine_stats {
    uint64_t frame, blocks, progress, applied, running;
    uint64_t bad_input; /* blocks whose input held NaN or infinity, played as silence */
    uint64_t clipped;   /* samples of the output whose magnitude is 1 or more */
    uint64_t silent;    /* 1: the fade that core_engine_fade_out asked for has ended */
    int64_t first_block_ns;
};
CORE_API void core_engine_stats(const struct core_engine *engine, struct core_engine_stats *stats); /* [any] */
/* The counter that result rings stamp their records with. [any] */
CORE_API const _Atomic uint64_t *core_engine_frame(const struct core_engine *engine);

#endif
