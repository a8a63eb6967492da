/* core_fir.c - the convolver's public face: each call goes to the level that was chosen at load. */
#include "fir.h"

#include "kernels.h"

struct core_fir *core_fir_new(const struct core_fir_spec *spec) { return kernels_chosen()->fir->new(spec); }

void core_fir_free(struct core_fir *fir) { kernels_chosen()->fir->free(fir); }

int core_fir_process(void *fir, const struct sigrack_block *block) { return kernels_chosen()->fir->process(fir, block); }

void core_fir_prime(struct core_fir *fir, const float *const *in, uint32_t frames) {
    kernels_chosen()->fir->prime(fir, in, frames);
}

void core_fir_catch_up(struct core_fir *fir) { kernels_chosen()->fir->catch_up(fir); }

void core_fir_reset(void *fir) { kernels_chosen()->fir->reset(fir); }

size_t core_fir_bytes(const struct core_fir *fir) { return kernels_chosen()->fir->bytes(fir); }

uint32_t core_fir_stages(const struct core_fir *fir, struct core_fir_stage stages[FIR_MAX_STAGES]) {
    return kernels_chosen()->fir->stages(fir, stages);
}
