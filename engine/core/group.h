/* group.h - the filter of adjacent linear slots, which can be replaced while it plays: a convolver, or the recursion of one slot.

   Another filter first catches up, on a thread beside the engine, with the input that the group has kept; then the engine runs
   both for the length of a fade: output = (1 - g) * old + g * new, both with their full history. */
#ifndef SIGRACK_GROUP_H
#define SIGRACK_GROUP_H

#include <stdint.h>

#include "core.h"
#include "filter.h"
#include "sigrack.h"

#define GROUP_LOST UINT64_MAX

struct core_group;

struct core_group_setup {
    uint32_t inputs, outputs;      /* channels */
    uint32_t max_frames;           /* of what comes in */
    uint32_t ratio;                /* the phases of its convolvers; 1 with a recursion */
    uint32_t history_frames;       /* input that is kept for those that catch up, at least */
    uint32_t fade_frames;          /* of what goes out; at least 1 */
};

/* Takes `filter` over. NULL when out of memory or range. [control] */
CORE_API struct core_group *core_group_new(const struct core_group_setup *setup, struct core_filter *filter);
/* Frees its filters, too. Accepts NULL. [control, not while processing] */
CORE_API void core_group_free(struct core_group *group);

/* A core_process and its core_reset. [engine] */
CORE_API int core_group_process(void *group, const struct sigrack_block *block);
CORE_API void core_group_reset(void *group);

/* Frames that have gone through so far. [any] */
CORE_API uint64_t core_group_written(const struct core_group *group);
/* The oldest frame that is still kept. [any] */
CORE_API uint64_t core_group_oldest(const struct core_group *group);

/* Give the kept input from frame `from` on, up to `limit` frames, to `filter`: `quick` without making output, in which case
   `core_filter_catch_up` must follow. Returns the frame after the last one given; GROUP_LOST when `from` is not kept any more, or
   memory ran out: then it must begin anew, from `core_group_oldest`. [worker] */
CORE_API uint64_t core_group_feed(const struct core_group *group, struct core_filter *filter, uint64_t from, uint32_t limit,
                                  int quick);

/* Give `filter`, which has had all input before frame `from`, the rest, and offer it; no other offer stands. The engine takes it
   over if it lags by no more than can be made up for within a block. Returns where it stands, or GROUP_LOST as above. [worker] */
CORE_API uint64_t core_group_offer(struct core_group *group, struct core_filter *filter, uint64_t from);
/* Whether an offer stands; whether one stands or is being faded in. [any] */
CORE_API int core_group_offered(const struct core_group *group);
CORE_API int core_group_busy(const struct core_group *group);
/* Take an offer back: 1 if the engine has not taken it. [worker] */
CORE_API int core_group_withdraw(struct core_group *group);
/* The filter that was faded out, or NULL: the caller's to free. While one is uncollected no other offer is taken. [main] */
CORE_API struct core_filter *core_group_collect(struct core_group *group);
/* Fades that have ended. [any] */
CORE_API uint64_t core_group_changes(const struct core_group *group);

#endif
