/* chain.h - the processors of a shared lane, one behind the other, in the child's process. */
#ifndef SIGRACK_CHAIN_H
#define SIGRACK_CHAIN_H

#include "exchange.h"
#include "slot.h"

#define CHAIN_MOST 32u
/* A parameter change for a chain says which member is meant: its place times CHAIN_PARAMS, plus the parameter's number. The last
   number switches the member: 0 bypasses it. */
#define CHAIN_PARAMS 65536u
#define CHAIN_ACTIVE (CHAIN_PARAMS - 1)

struct core_chain;

/* The slots are borrowed; each takes and gives all channels of the exchange, in quanta of its length, at the same rate. NULL when out of memory
   or range. [control] */
CORE_API struct core_chain *core_chain_new(struct core_exchange *exchange, struct core_slot *const *slots, uint32_t count);
CORE_API void core_chain_free(struct core_chain *chain);

/* As a child's processor: `self` is a struct core_chain. The exchange is told which member is at work. [the child's audio thread] */
CORE_API int core_chain_process(void *self, const struct sigrack_block *block);

#endif
