/* core_fir.c - the convolver's public face: each call goes to the level that was chosen at load. */
#include "fir.h"

#include "kernels.h"

struct core_fir *core_fir_new(uint32_t inputs, uint32_t outputs, uint32_t count, const float *taps, uint32_t partition) {
    return kernels_chosen()->fir->new(inputs, outputs, count, taps, partition);
}

void core_fir_free(struct core_fir *fir) { kernels_chosen()->fir->free(fir); }

int core_fir_process(void *fir, const struct sigrack_block *block) { return kernels_chosen()->fir->process(fir, block); }

void core_fir_reset(void *fir) { kernels_chosen()->fir->reset(fir); }

size_t core_fir_bytes(const struct core_fir *fir) { return kernels_chosen()->fir->bytes(fir); }
