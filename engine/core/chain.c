#include "chain.h"

#include <stdlib.h>
#include <string.h>

#include "fpu.h"
#include "memory.h"

struct core_chain {
    struct core_exchange *exchange;
    uint32_t count;
    struct core_slot *slots[CHAIN_MOST];
    float *planes[2][SIGRACK_MAX_CHANNELS]; /* what goes from one to the next */
    float *memory;
};

static int fits(const struct core_exchange *exchange, const struct core_slot *slot) {
    return slot->setup.channels == exchange->channels && slot->setup.outputs == exchange->outputs && slot->setup.ratio == 1 &&
           slot->setup.max_frames >= exchange->quantum;
}

struct core_chain *core_chain_new(struct core_exchange *exchange, struct core_slot *const *slots, uint32_t count) {
    uint32_t channels = exchange->channels;
    if (!count || count > CHAIN_MOST || exchange->outputs != channels || exchange->ratio != 1)
        return NULL;
    for (uint32_t i = 0; i < count; i++)
        if (!fits(exchange, slots[i]))
            return NULL;
    struct core_chain *chain = core_take(sizeof *chain);
    if (!chain)
        return NULL;
    chain->exchange = exchange;
    chain->count = count;
    memcpy(chain->slots, slots, count * sizeof *slots);
    chain->memory = core_take((size_t)2 * channels * exchange->quantum * sizeof(float));
    if (!chain->memory) {
        core_chain_free(chain);
        return NULL;
    }
    for (uint32_t c = 0; c < 2 * channels; c++)
        chain->planes[c / channels][c % channels] = chain->memory + (size_t)c * exchange->quantum;
    return chain;
}

void core_chain_free(struct core_chain *chain) {
    if (!chain)
        return;
    free(chain->memory);
    free(chain);
}

/* Hand the changes over. This thread is the slots' only writer, and a slot takes as many in a block as a quantum brings. */
static void deal(struct core_chain *chain, const struct sigrack_block *block) {
    for (uint32_t i = 0; i < block->event_count; i++) {
        const struct sigrack_event *event = &block->events[i];
        uint32_t member = event->param / CHAIN_PARAMS, param = event->param % CHAIN_PARAMS;
        if (member >= chain->count)
            continue;
        if (param == CHAIN_ACTIVE)
            core_slot_activate(chain->slots[member], event->value != 0);
        else
            core_slot_set(chain->slots[member], param, event->value, block->frame + event->offset);
    }
}

int core_chain_process(void *self, const struct sigrack_block *block) {
    struct core_chain *chain = self;
    const float *const *from = block->in;
    deal(chain, block);
    for (uint32_t i = 0; i < chain->count; i++) {
        float *const *to = i + 1 < chain->count ? chain->planes[i % 2] : block->out;
        exchange_enter(chain->exchange, i);
        slot_run(chain->slots[i], from, from, to, block->frames, block->frame);
        fpu_set(FPU_CLEAN); /* whatever the plugin has left there */
        from = (const float *const *)to;
    }
    return 0;
}
