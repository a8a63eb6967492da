/* biquads_state.h - what a recursion is made of: biquads_setup.c makes it, biquads.c runs it. */
#ifndef SIGRACK_BIQUADS_STATE_H
#define SIGRACK_BIQUADS_STATE_H

#include "biquads.h"
#include "cascade.h"

/* Frames that go through all stages at once. */
#define BIQUADS_CHUNK 128u

struct delay {
    double *line; /* `frames` of them, or NULL */
    uint32_t frames, position;
    uint32_t empty; /* frames of the line that are silence, whatever it holds: after a reset */
};

struct stage {
    uint32_t inputs, outputs;
    double *mix;
    struct delay *delays; /* [output] */
    double **planes;      /* [output][BIQUADS_CHUNK]: what comes out */
    uint32_t width;       /* outputs that share a vector: a bank */
    uint32_t banks;
    uint32_t *cascades; /* [bank]: how many, one behind the other */
    struct cascade *cascade;
    uint32_t cascade_count;
};

struct core_biquads {
    struct core_filter filter;
    uint32_t inputs, outputs, count; /* channels; stages */
    struct stage *stages;
    double *planes[SIGRACK_MAX_CHANNELS]; /* [BIQUADS_CHUNK]: what comes in */
    double *bank;                         /* [BIQUADS_CHUNK][width] */
    size_t bytes;
};

static inline uint32_t biquads_least(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* biquads.c: how it runs. */
extern const struct filter_class biquads_class;
/* biquads_setup.c: as in `struct filter_class`. */
void biquads_free(void *self);

#endif
