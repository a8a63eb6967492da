/* envelope.h - from the gain that each frame needs to a gain that moves smoothly and is there in time.

   needed -> least of the last `window` frames -> hold, release -> two moving averages in a row, `smooth` frames together

   After a frame that needs g, the gain is at most g from `smooth - 1` to `window - 1` frames later. Gains are whole numbers of
   2^-30 from the averages on, and so are their sums: exact, so nothing drifts, and rounded down, so nothing is above what is
   needed. */
#ifndef SIGRACK_ENVELOPE_H
#define SIGRACK_ENVELOPE_H

#include <stdint.h>

struct envelope {
    /* The sliding minimum, after van Herk (1992): the least of the running stretch of `window` frames so far, and for each frame of
       the stretch before the least from there to its end. The running stretch overwrites those that it has passed. */
    float *stretch, least;
    uint32_t window, at;
    /* Hold and release. */
    double gain, rise; /* `rise` per frame, of the way to go */
    uint32_t hold, held; /* frames */
    /* The moving averages. */
    uint32_t *first;
    uint64_t *second;
    uint32_t first_frames, second_frames, first_at, second_at;
    uint64_t first_sum, second_sum;
    double scale;
};

/* Begin with gain 1, at rest; 1 < smooth <= window. Follow with `envelope_set`. Returns 0 when out of memory. [control] */
int envelope_open(struct envelope *envelope, uint32_t window, uint32_t smooth);
/* What is closed, or was never opened, is zero. [control] */
void envelope_close(struct envelope *envelope);
/* Forget all history. [engine] */
void envelope_reset(struct envelope *envelope);
/* Keep the least gain for `hold` frames after it was last needed, then let it rise: the rest of the reduction falls by a factor
   of e in `release` frames; far below 1, the gain rises by the same factor in the same time. [engine] */
void envelope_set(struct envelope *envelope, double hold, double release);
/* Replace the gain that each frame needs, above 0 and at most 1, by the gain that it gets. [engine] */
void envelope_run(struct envelope *envelope, float *gains, uint32_t frames);

#endif
