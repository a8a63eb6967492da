/* core_fir.c - the convolver's public face: it is made by the level that was chosen at load. */
#include "fir.h"

#include "kernels.h"

struct core_filter *core_fir_new(const struct core_fir_spec *spec) { return kernels_chosen()->fir->new(spec); }

uint32_t core_fir_stages(const struct core_filter *fir, struct core_fir_stage stages[FIR_MAX_STAGES]) {
    return kernels_chosen()->fir->stages(fir, stages);
}
