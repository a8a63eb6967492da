/* Run lists replaced while blocks run: at once or with a dip, none lost, none freed too early. */
#include <math.h>

#include "affine.h"
#include "threads.h"

static void a_list_that_never_ran_comes_back_and_one_that_did_is_collected(void) {
    struct core_engine *engine = engine_new();
    struct affine parts[4] = {{1, 1}, {1, 2}, {1, 3}, {1, 4}};
    struct core_slot *slots[4];
    struct core_run_list *lists[4];
    for (int i = 0; i < 4; i++)
        lists[i] = list_of(slots[i] = slot_of(process, &parts[i]));
    CHECK(!core_engine_publish(engine, lists[0], 0));
    CHECK(core_engine_publish(engine, lists[1], 0) == lists[0]);
    core_run_list_free(lists[0]);
    CHECK(run_one(engine, 0) == 2 && !core_engine_collect(engine));
    CHECK(!core_engine_publish(engine, lists[2], 0));
    CHECK(run_one(engine, 0) == 3);
    /* lists[1] is not collected yet: the next one has to wait. */
    CHECK(!core_engine_publish(engine, lists[3], 0));
    CHECK(run_one(engine, 0) == 3 && run_one(engine, 0) == 3);
    CHECK(core_engine_collect(engine) == lists[1] && !core_engine_collect(engine));
    core_run_list_free(lists[1]);
    CHECK(run_one(engine, 0) == 4);
    CHECK(core_engine_collect(engine) == lists[2]);
    core_run_list_free(lists[2]);
    core_engine_free(engine);
    for (int i = 0; i < 4; i++)
        core_slot_free(slots[i]);
}

/* Run `frames` frames of the constant 1 in blocks of `block`; returns the largest step of the output, which begins at `*level`
   and ends there, and notes whether it was ever silent. */
static float run_on(struct core_engine *engine, uint32_t frames, uint32_t block, float *level, int *silent) {
    float worst = 0;
    for (uint32_t done = 0; done < frames; done += block) {
        run(engine, 1, block);
        for (uint32_t i = 0; i < block; i++) {
            worst = fmaxf(worst, fabsf(last_out[0][i] - *level));
            *level = last_out[0][i];
            *silent |= fabsf(*level) < 1e-6f;
        }
    }
    return worst;
}

#define DIP_STEP (1.001f / DIP)

static void a_dip_is_continuous_and_silent_at_the_switch(void) {
    static const uint32_t blocks[] = {1, 7, 25, 50, 64};
    for (int b = 0; b < 5; b++) {
        struct core_engine *engine = engine_new();
        struct affine upright = {1, 0}, inverted = {-1, 0};
        struct core_slot *slots[2] = {slot_of(process, &upright), slot_of(process, &inverted)};
        core_engine_publish(engine, list_of(slots[0]), 1); /* the first list needs no dip */
        CHECK(run_one(engine, 1) == 1);
        core_engine_publish(engine, list_of(slots[1]), 1);
        float level = 1;
        int silent = 0;
        CHECK(run_on(engine, 3 * DIP, blocks[b], &level, &silent) <= DIP_STEP);
        CHECK(silent && level == -1 && stats_of(engine).applied == 2);
        core_engine_free(engine);
        core_slot_free(slots[0]);
        core_slot_free(slots[1]);
    }
}

static void a_dip_may_begin_while_another_ends(void) {
    struct core_engine *engine = engine_new();
    struct affine upright = {1, 0}, inverted = {-1, 0};
    struct core_slot *slots[2] = {slot_of(process, &upright), slot_of(process, &inverted)};
    float level = 1;
    int silent = 0;
    for (uint32_t n = 0; n < 40; n++) {
        core_run_list_free(core_engine_publish(engine, list_of(slots[n % 2]), 1));
        CHECK(run_on(engine, 3 * (n + 1), 3, &level, &silent) <= DIP_STEP);
        core_run_list_free(core_engine_collect(engine));
    }
    CHECK(run_on(engine, 3 * DIP, 3, &level, &silent) <= DIP_STEP);
    CHECK(level == -1 && silent);
    core_engine_free(engine);
    core_slot_free(slots[0]);
    core_slot_free(slots[1]);
}

static void a_fade_in_begins_with_silence_and_ends_exact(void) {
    static const uint32_t blocks[] = {1, 7, 50};
    for (int b = 0; b < 3; b++) {
        struct core_engine *engine = engine_new();
        struct affine upright = {1, 0};
        struct core_slot *slot = slot_of(process, &upright);
        core_engine_fade_in(engine);
        core_engine_publish(engine, list_of(slot), 0);
        float level = 0;
        int silent = 0;
        CHECK(run_on(engine, DIP / 2, blocks[b], &level, &silent) <= DIP_STEP);
        CHECK(level > 0.4f && level < 0.6f);
        CHECK(run_on(engine, DIP, blocks[b], &level, &silent) <= DIP_STEP);
        CHECK(level == 1 && !stats_of(engine).silent);
        core_engine_free(engine);
        core_slot_free(slot);
    }
}

/* `before`: frames of a dip that has begun when the end is asked for; 0: none has. */
static void fade_out_from(uint32_t before) {
    struct core_engine *engine = engine_new();
    struct affine upright = {1, 0}, inverted = {-1, 0}, never = {0, 1};
    struct core_slot *slots[3] = {slot_of(process, &upright), slot_of(process, &inverted), slot_of(process, &never)};
    float level = 1;
    int silent = 0;
    core_engine_publish(engine, list_of(slots[0]), 0);
    CHECK(run_one(engine, 1) == 1);
    if (before)
        core_engine_publish(engine, list_of(slots[1]), 1);
    CHECK(run_on(engine, before, 5, &level, &silent) <= DIP_STEP);
    float last = fabsf(level);
    core_engine_fade_out(engine);
    for (uint32_t n = 0; n < 2 * DIP; n += 5) {
        CHECK(run_on(engine, 5, 5, &level, &silent) <= DIP_STEP && fabsf(level) <= last);
        last = fabsf(level);
        CHECK(stats_of(engine).silent == (last < 1e-6f));
        if (n == DIP / 2)
            core_run_list_free(core_engine_publish(engine, list_of(slots[2]), n % 2));
    }
    CHECK(level == 0 && stats_of(engine).silent && stats_of(engine).applied == (before > DIP ? 2 : 1));
    core_engine_free(engine);
    for (int i = 0; i < 3; i++)
        core_slot_free(slots[i]);
}

static void a_fade_out_ends_in_silence_whatever_goes_on(void) {
    fade_out_from(0);
    fade_out_from(DIP / 2);     /* in the middle of a dip's first half */
    fade_out_from(3 * DIP / 2); /* and of its second */
    fade_out_from(3 * DIP);     /* when it is over */
}

/* A thread that runs blocks of the constant 1 until it is told to stop. */
struct runner {
    struct core_engine *engine;
    _Atomic int over;
    float level, worst_step;
    uint64_t blocks;
};

static void *run_blocks(void *argument) {
    struct runner *runner = argument;
    uint64_t random = 8;
    int silent = 0;
    while (!atomic_load(&runner->over)) {
        uint32_t frames = draw(&random, 16) + 1;
        float worst = run_on(runner->engine, frames, frames, &runner->level, &silent);
        runner->worst_step = fmaxf(runner->worst_step, worst);
        runner->blocks++;
    }
    return NULL;
}

/* A list that owns its slot, which owns its processor. */
static struct core_run_list *list_of_own(float factor) {
    struct affine *affine = malloc(sizeof *affine);
    CHECK(affine);
    *affine = (struct affine){factor, 0};
    return list_of(slot_of(process, affine));
}

static uint32_t free_own(struct core_run_list *list) {
    if (!list)
        return 0;
    struct core_slot *slot = list->steps[0].slot;
    free(slot->setup.self);
    core_slot_free(slot);
    core_run_list_free(list);
    return 1;
}

#define SWAPS (SANITIZED ? 60000u : 100000u)

static void lists_can_be_freed_while_blocks_run(void) {
    struct runner runner = {.engine = engine_new()};
    pthread_t thread = thread_start(run_blocks, &runner);
    uint64_t random = 9, freed = 0, collected = 0;
    for (uint32_t n = 0; n < SWAPS; n++) {
        freed += free_own(core_engine_publish(runner.engine, list_of_own((float)(n % 100)), !draw(&random, 20)));
        dawdle(&random, 3);
        collected += free_own(core_engine_collect(runner.engine));
    }
    atomic_store(&runner.over, 1);
    thread_join(thread);
    collected += free_own(core_engine_collect(runner.engine));
    struct core_run_list *waiting = core_engine_publish(runner.engine, NULL, 0);
    uint64_t applied = stats_of(runner.engine).applied;
    CHECK(applied > 10 && collected == applied - 1 && freed + applied + (waiting != NULL) == SWAPS);
    free_own(waiting);
    struct core_run_list *current = runner.engine->current;
    struct core_slot *slot = current->steps[0].slot;
    core_engine_free(runner.engine);
    free(slot->setup.self);
    core_slot_free(slot);
}

/* Of each pair the second list must come with a dip, however the two meet the engine. */
static void a_wanted_dip_is_never_lost(void) {
    struct runner runner = {.engine = engine_new(), .level = 1};
    struct affine parts[2] = {{1, 0}, {-1, 0}};
    struct core_slot *slots[2] = {slot_of(process, &parts[0]), slot_of(process, &parts[1])};
    core_engine_publish(runner.engine, list_of(slots[0]), 0);
    run(runner.engine, 1, 1); /* the first list is taken without a dip */
    pthread_t thread = thread_start(run_blocks, &runner);
    uint64_t random = 10;
    for (uint32_t n = 1; n < SWAPS; n++) {
        for (int pair = 0; pair < 2; pair++) {
            core_run_list_free(core_engine_publish(runner.engine, list_of(slots[(n + (uint32_t)pair + 1) % 2]), pair));
            for (volatile uint32_t spin = draw(&random, 100); spin; spin--) {
            }
        }
        uint64_t blocks = stats_of(runner.engine).blocks;
        for (uint32_t wait = draw(&random, 4) ? 2 : 0; stats_of(runner.engine).blocks < blocks + wait;)
            sched_yield();
        core_run_list_free(core_engine_collect(runner.engine));
    }
    atomic_store(&runner.over, 1);
    thread_join(thread);
    CHECK(runner.worst_step <= DIP_STEP);
    core_engine_free(runner.engine);
    core_slot_free(slots[0]);
    core_slot_free(slots[1]);
}

int main(void) {
    a_list_that_never_ran_comes_back_and_one_that_did_is_collected();
    a_dip_is_continuous_and_silent_at_the_switch();
    a_dip_may_begin_while_another_ends();
    a_fade_in_begins_with_silence_and_ends_exact();
    a_fade_out_ends_in_silence_whatever_goes_on();
    lists_can_be_freed_while_blocks_run();
    a_wanted_dip_is_never_lost();
}
