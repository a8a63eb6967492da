/* delay.h - some channels, all of them later by the same number of frames. */
#ifndef SIGRACK_DELAY_H
#define SIGRACK_DELAY_H

#include <stdint.h>

struct core_delay {
    uint32_t channels, latency;
    uint32_t position; /* in the lines, where the next frame goes */
    float *lines;      /* [channels][latency] */
};

/* Begin with silence. Returns 0 when out of memory; nothing is taken when there is nothing to delay. [control] */
int delay_open(struct core_delay *delay, uint32_t channels, uint32_t latency);
void delay_close(struct core_delay *delay); /* [control] */

/* out = in, `latency` frames ago; its planes do not overlap. The latency is above 0. [engine] */
void delay_run(struct core_delay *delay, const float *const *in, float *const *out, uint32_t frames);

#endif
