#include "delay.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

int delay_open(struct core_delay *delay, uint32_t channels, uint32_t latency) {
    *delay = (struct core_delay){.channels = channels, .latency = latency};
    if (!channels || !latency)
        return 1;
    delay->lines = core_take((size_t)channels * latency * sizeof(float));
    return delay->lines != NULL;
}

void delay_close(struct core_delay *delay) {
    free(delay->lines);
    delay->lines = NULL;
}

static void copy(float *to, const float *from, uint32_t frames) { memcpy(to, from, frames * sizeof(float)); }

/* A block that is not shorter than the line: all of the line comes out, then the block's begin; its end stays. */
static void pass_long(float *line, uint32_t latency, uint32_t position, const float *in, float *out, uint32_t frames) {
    copy(out, line + position, latency - position);
    copy(out + latency - position, line, position);
    copy(out + latency, in, frames - latency);
    uint32_t next = (position + frames) % latency;
    const float *kept = in + frames - latency;
    copy(line + next, kept, latency - next);
    copy(line, kept + latency - next, next);
}

/* A shorter one meets the line's end at most once. */
static void pass_short(float *line, uint32_t latency, uint32_t position, const float *in, float *out, uint32_t frames) {
    uint32_t first = latency - position < frames ? latency - position : frames;
    copy(out, line + position, first);
    copy(line + position, in, first);
    copy(out + first, line, frames - first);
    copy(line, in + first, frames - first);
}

void delay_run(struct core_delay *delay, const float *const *in, float *const *out, uint32_t frames) {
    uint32_t latency = delay->latency;
    for (uint32_t c = 0; c < delay->channels; c++) {
        float *line = delay->lines + (size_t)c * latency;
        if (frames < latency)
            pass_short(line, latency, delay->position, in[c], out[c], frames);
        else
            pass_long(line, latency, delay->position, in[c], out[c], frames);
    }
    delay->position = (delay->position + frames) % latency;
}
