#include "filter.h"

void core_filter_free(struct core_filter *filter) {
    if (filter)
        filter->class->free(filter);
}

int core_filter_process(void *filter, const struct sigrack_block *block) {
    return ((struct core_filter *)filter)->class->process(filter, block);
}

void core_filter_prime(struct core_filter *filter, const float *const *in, uint32_t frames) {
    filter->class->prime(filter, in, frames);
}

void core_filter_catch_up(struct core_filter *filter) { filter->class->catch_up(filter); }

void core_filter_reset(void *filter) { ((struct core_filter *)filter)->class->reset(filter); }

size_t core_filter_bytes(const struct core_filter *filter) { return filter->class->bytes(filter); }
