/* sigrack.h - what a native plugin and its host promise each other.

   A plugin is a shared library that exports one function, `sigrack_plugin_entry`. Every struct begins with its own size, so
   that either side may be newer than the other: read no field that lies beyond `size`.

   The last word of each comment is the thread that calls the function:
     [control]  one thread for life-cycle calls; may allocate, lock, read files; the host sets a time limit
     [engine]   the real-time thread; no allocation, lock, log, exception or system call
     [any]      any thread */
#ifndef SIGRACK_H
#define SIGRACK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SIGRACK_ABI 1
#define SIGRACK_MAX_CHANNELS 32

#if defined(__GNUC__)
#define SIGRACK_EXPORT __attribute__((visibility("default")))
#else
#define SIGRACK_EXPORT
#endif

/* A number that can be set while audio runs. Values arrive as events inside `sigrack_block`. */
struct sigrack_param {
    uint32_t size;       /* sizeof(struct sigrack_param) */
    uint32_t flags;      /* 0 */
    const char *id;      /* lower case with its unit: "gain_db" */
    const char *name;    /* for people: "Gain" */
    const char *unit;    /* "dB", "Hz", "ms", "" */
    double minimum, maximum, initial;
};

/* A kind of result that the plugin posts. One record holds up to 32 values, by custom one per channel. */
struct sigrack_factor {
    uint32_t size;      /* sizeof(struct sigrack_factor) */
    uint32_t flags;     /* 0 */
    const char *symbol; /* "peak_db" */
    const char *unit;   /* "dBFS" */
};

/* What the host offers. Valid from `create` until `destroy` returns. */
struct sigrack_host {
    uint32_t size; /* sizeof(struct sigrack_host) */
    uint32_t abi;  /* SIGRACK_ABI of the host */
    uint64_t cookie;
    /* Queue one record of factor number `factor`, measured at engine frame `frame`. Never blocks; the values are copied.
       Returns 1, or 0 when the record was dropped (and counted). There is room for each factor once per millisecond of a block;
       with more than that, or with a main loop that is late, some are dropped. [any] */
    int (*post)(uint64_t cookie, uint32_t factor, uint64_t frame, const double *values, uint32_t count);
};

/* The conditions under which `process` will run. */
struct sigrack_setup {
    uint32_t size;        /* sizeof(struct sigrack_setup) */
    uint32_t rate_hz;     /* frames per second */
    uint32_t max_frames;  /* no block is longer */
    uint32_t channels;    /* of the slot, in and out, 1 to SIGRACK_MAX_CHANNELS */
    const double *values; /* one per parameter: where they begin, without smoothing; valid until `activate` returns */
};

#define SIGRACK_LINEAR 1u  /* the output is a linear, time-invariant function of the input */
#define SIGRACK_UNIFORM 2u /* the output is the input times a gain that is the same for all channels, and may move: the host may
                              exchange it with a filter */

/* What the plugin promises under these conditions. Zeroed by the host before `activate`. */
struct sigrack_contract {
    uint32_t size;           /* sizeof(struct sigrack_contract) */
    uint32_t flags;          /* SIGRACK_LINEAR, SIGRACK_UNIFORM */
    uint32_t latency_frames; /* delay of the output against the input */
    uint32_t tail_frames;    /* how long the output lasts after the input has ended */
};

/* A parameter change inside a block. */
struct sigrack_event {
    uint32_t offset; /* frames from the start of the block */
    uint32_t param;  /* index into `params` */
    double value;    /* within minimum and maximum */
};

/* One block. Planar: in[c] and out[c] are `frames` floats each and never overlap. Valid until `process` returns. */
struct sigrack_block {
    uint32_t size; /* sizeof(struct sigrack_block) */
    uint32_t frames;
    uint64_t frame; /* engine frame number of the first frame */
    const float *const *in;
    float *const *out;
    uint32_t channels;
    uint32_t event_count;
    const struct sigrack_event *events; /* by rising offset */
};

/* The library leaves nothing behind after its last `destroy`: no thread, no thread-local destructor, no atexit handler. The
   host may unmap it then; without this flag it never does. */
#define SIGRACK_UNLOADABLE 1u

struct sigrack_plugin {
    uint32_t size; /* sizeof(struct sigrack_plugin) */
    uint32_t abi;  /* SIGRACK_ABI */
    const char *id; /* "gain"; reverse domain names for plugins of others: "com.example.gain" */
    const char *name;
    const char *version;
    const char *description; /* one sentence */
    const struct sigrack_param *params;
    uint32_t param_count;
    const struct sigrack_factor *factors;
    uint32_t factor_count;

    /* Make an instance. `config` is the slot's [slot.config] table as JSON. On failure write one sentence into `error` and
       return NULL. [control] */
    void *(*create)(const struct sigrack_host *host, const char *config, char *error, uint32_t error_size);
    /* Prepare for `process` and fill in `contract`. Returns 0 on success. [control, not while processing] */
    int (*activate)(void *self, const struct sigrack_setup *setup, struct sigrack_contract *contract);
    /* Write `out`. Returns 0 on success; otherwise the host plays the input instead and counts a fault. [engine] */
    int (*process)(void *self, const struct sigrack_block *block);
    /* Forget all history, keep the parameters. NULL if there is none. [engine] */
    void (*reset)(void *self);
    /* [control, not while processing] */
    void (*destroy)(void *self);

    uint32_t flags;    /* SIGRACK_UNLOADABLE or 0 */
    uint32_t reserved; /* 0 */
    /* The state is what parameters do not tell: it survives a reload and a restart. Return its length in bytes, 64 MiB at most,
       and write it to `data` if `size` is enough; 0: there is nothing to keep now. The host asks for the length first, with
       size 0 and no `data`. NULL: the plugin has no state. [control, also while processing: the plugin must cope] */
    uint32_t (*state_save)(void *self, void *data, uint32_t size);
    /* Take a state over, once, between `create` and `activate`. `version` is that of the plugin which saved it. Returns 0 on
       success, else writes one sentence into `error`. NULL exactly if `state_save` is. [control, not while processing] */
    int (*state_load)(void *self, const char *version, const void *data, uint32_t size, char *error, uint32_t error_size);
};

/* The one exported function. The struct lives as long as the library. [control] */
SIGRACK_EXPORT const struct sigrack_plugin *sigrack_plugin_entry(void);

#ifdef __cplusplus
}
#endif
#endif
