/* One slot: parameter changes, the guard, meters. */
#include <math.h>

#include "kernels.h"
#include "processor.h"

static void expect_event(const struct processor *processor, uint32_t i, uint32_t offset, double value) {
    CHECK(i < processor->event_count && processor->events[i].offset == offset && processor->events[i].value == value);
}

static void changes_arrive_in_their_block_at_their_frame_in_order(void) {
    struct processor processor = {.gain = 1};
    struct core_slot *slot = slot_with(&processor, 1, 1);
    CHECK(core_slot_set(slot, 3, 0.5, 0) && core_slot_set(slot, 1, 1.5, 10) && core_slot_set(slot, 2, 2.5, 63));
    CHECK(core_slot_set(slot, 0, 3.5, 64) && core_slot_set(slot, 0, 4.5, 300));
    run(slot, 0, 64, 64);
    CHECK(processor.event_count == 3);
    expect_event(&processor, 0, 0, 0.5);
    expect_event(&processor, 1, 10, 1.5);
    expect_event(&processor, 2, 63, 2.5);
    CHECK(processor.events[0].param == 3 && processor.events[1].param == 1 && processor.events[2].param == 2);
    run(slot, 64, 64, 64);
    CHECK(processor.event_count == 1);
    expect_event(&processor, 0, 0, 3.5);
    run(slot, 128, 64, 64);
    CHECK(processor.event_count == 0);
    run(slot, 192, 128, 128);
    expect_event(&processor, 0, 300 - 192, 4.5);
    core_slot_free(slot);
}

/* "As soon as possible" behind a change that waits for its frame must not run backwards inside the block. */
static void offsets_never_fall_within_a_block(void) {
    struct processor processor = {.gain = 1};
    struct core_slot *slot = slot_with(&processor, 1, 1);
    CHECK(core_slot_set(slot, 0, 1, 40) && core_slot_set(slot, 0, 2, 0) && core_slot_set(slot, 0, 3, 50));
    run(slot, 0, 64, 64);
    CHECK(processor.event_count == 3);
    expect_event(&processor, 0, 40, 1);
    expect_event(&processor, 1, 40, 2);
    expect_event(&processor, 2, 50, 3);
    core_slot_free(slot);
}

static void too_many_changes_spill_into_the_next_block_and_a_full_queue_says_so(void) {
    struct processor processor = {.gain = 1};
    struct core_slot *slot = slot_with(&processor, 1, 1);
    for (uint32_t i = 0; i < SLOT_EVENTS; i++)
        CHECK(core_slot_set(slot, 0, i, 5));
    CHECK(!core_slot_set(slot, 0, 0, 5));
    for (uint32_t block = 0; block < SLOT_EVENTS / SLOT_BLOCK_EVENTS; block++) {
        run(slot, 64 * block, 64, 64);
        CHECK(processor.event_count == SLOT_BLOCK_EVENTS);
        for (uint32_t i = 0; i < SLOT_BLOCK_EVENTS; i++)
            expect_event(&processor, i, block ? 0 : 5, block * SLOT_BLOCK_EVENTS + i);
    }
    CHECK(core_slot_set(slot, 0, 0, 5));
    core_slot_free(slot);
}

/* The last two blocks of three go wrong: the input, as late as the output would be, takes their place. */
static void expect_input_instead(float poison, int status, uint32_t latency) {
    struct processor processor = {.gain = 0.25f, .latency = latency};
    struct core_slot *slot = slot_with(&processor, 100, 1);
    run(slot, 0, 64, 64);
    processor.poison = poison;
    processor.status = status;
    run(slot, 64, 128, 64);
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < 192; i++) {
            float in = i < latency ? 0 : signal_now.in[c][i - latency];
            CHECK(signal_now.out[c][i] == in * (i < 64 ? 0.25f : 1.0f));
        }
    const struct core_slot_meters *meters = core_slot_meters(slot);
    CHECK(atomic_load(&meters->faults) == (status ? 2 : 0));
    CHECK(atomic_load(&meters->nonfinite) == (status ? 0 : 2));
    CHECK(processor.resets == (poison != 0 ? 2 : 0));
    core_slot_free(slot);
}

static void a_failing_processor_is_replaced_by_its_input(void) {
    for (uint32_t latency = 0; latency < 100; latency += 33) {
        expect_input_instead(NAN, 0, latency);
        expect_input_instead(INFINITY, 0, latency);
        expect_input_instead(-INFINITY, 0, latency);
        expect_input_instead(0, 1, latency);
        expect_input_instead(0, -5, latency);
        expect_input_instead(NAN, 2, latency);
    }
}

static void every_place_in_a_block_is_guarded(void) {
    float samples[67] = {0};
    for (uint32_t i = 0; i < 67; i++) {
        samples[i] = NAN;
        CHECK(kernels_chosen()->nonfinite(samples, 67) && !kernels_chosen()->nonfinite(samples, i));
        samples[i] = -3.4e38f;
        CHECK(!kernels_chosen()->nonfinite(samples, 67));
        samples[i] = 1e-45f;
    }
}

static void meters_add_up(void) {
    struct processor processor = {.gain = 1};
    struct core_slot *slot = slot_with(&processor, 100, 1);
    run(slot, 0, 10 * 64, 64);
    const struct core_slot_meters *meters = core_slot_meters(slot);
    CHECK(atomic_load(&meters->blocks) == 10);
    CHECK(atomic_load(&meters->ticks) >= atomic_load(&meters->ticks_longest));
    CHECK(atomic_load(&meters->ticks) <= 10 * atomic_load(&meters->ticks_longest));
    CHECK(atomic_load(&meters->ticks_longest) > 0);
    core_slot_free(slot);
}

int main(void) {
    fill_noise();
    core_slot_free(NULL);
    changes_arrive_in_their_block_at_their_frame_in_order();
    offsets_never_fall_within_a_block();
    too_many_changes_spill_into_the_next_block_and_a_full_queue_says_so();
    a_failing_processor_is_replaced_by_its_input();
    every_place_in_a_block_is_guarded();
    meters_add_up();
}
