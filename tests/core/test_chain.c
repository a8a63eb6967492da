/* The processors of a shared lane: one behind the other, changes to the one that is meant, a bypass and a guard for each. */
#include <math.h>

#include "chain.h"
#include "processor.h"

#define QUANTUM 64u
#define MEMBERS 3u

struct rig {
    struct core_exchange exchange;
    struct processor processors[MEMBERS];
    struct core_slot *slots[MEMBERS];
    struct core_chain *chain;
    void *host, *child;
    float *planes[2];
};

static const struct core_exchange_shape shape = {CHANNELS, CHANNELS, 1, QUANTUM, 4};

static void open_rig(struct rig *rig, uint32_t count, uint32_t active) {
    struct core_exchange_sizes sizes = core_exchange_sizes(&shape);
    *rig = (struct rig){.host = aligned_alloc(EXCHANGE_PAGE, sizes.host), .child = aligned_alloc(EXCHANGE_PAGE, sizes.child)};
    memset(rig->host, 0, sizes.host);
    memset(rig->child, 0, sizes.child);
    CHECK(core_exchange_open(&rig->exchange, rig->host, rig->child, &shape, -1));
    for (uint32_t i = 0; i < count; i++) {
        rig->processors[i].gain = (float)(i + 2);
        rig->slots[i] = slot_with(&rig->processors[i], 1, active);
    }
    CHECK(rig->chain = core_chain_new(&rig->exchange, rig->slots, count));
    for (uint32_t c = 0; c < CHANNELS; c++)
        CHECK(rig->planes[c] = calloc(QUANTUM, sizeof(float)));
}

static void close_rig(struct rig *rig) {
    core_chain_free(rig->chain);
    for (uint32_t i = 0; i < MEMBERS; i++)
        core_slot_free(rig->slots[i]);
    for (uint32_t c = 0; c < CHANNELS; c++)
        free(rig->planes[c]);
    free(rig->host);
    free(rig->child);
}

/* Run quantum number `quantum` of the signal with these changes. */
static void play(struct rig *rig, uint32_t quantum, const struct sigrack_event *events, uint32_t count) {
    const float *in[CHANNELS] = {signal_now.in[0] + quantum * QUANTUM, signal_now.in[1] + quantum * QUANTUM};
    struct sigrack_block block = {.size = sizeof block, .frames = QUANTUM, .frame = quantum * QUANTUM, .in = in, .out = rig->planes};
    block.channels = CHANNELS;
    block.events = events;
    block.event_count = count;
    CHECK(core_chain_process(rig->chain, &block) == 0);
}

static void expect_gain(const struct rig *rig, uint32_t quantum, float gain) {
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < QUANTUM; i++)
            CHECK(rig->planes[c][i] == signal_now.in[c][quantum * QUANTUM + i] * gain);
}

static void members_play_one_behind_the_other(void) {
    for (uint32_t count = 1; count <= MEMBERS; count++) {
        static const float gains[] = {2, 6, 24};
        struct rig rig;
        open_rig(&rig, count, 1);
        for (uint32_t quantum = 0; quantum < 8; quantum++) {
            play(&rig, quantum, NULL, 0);
            expect_gain(&rig, quantum, gains[count - 1]);
        }
        struct core_exchange_progress progress;
        core_exchange_look(&rig.exchange, &progress);
        CHECK(progress.member == count - 1); /* at which it would have died just now */
        close_rig(&rig);
    }
}

static void a_change_reaches_its_member_at_its_frame(void) {
    struct rig rig;
    open_rig(&rig, MEMBERS, 1);
    struct sigrack_event events[] = {{3, CHAIN_PARAMS + 7, 0.5}, {9, 5, 1.5}, {63, 2 * CHAIN_PARAMS, 2.5}, {63, 40 * CHAIN_PARAMS, 9}};
    play(&rig, 2, events, 4);
    for (uint32_t i = 0; i < MEMBERS; i++)
        CHECK(rig.processors[i].event_count == 1);
    CHECK(rig.processors[0].events[0].offset == 9 && rig.processors[0].events[0].param == 5 && rig.processors[0].events[0].value == 1.5);
    CHECK(rig.processors[1].events[0].offset == 3 && rig.processors[1].events[0].param == 7);
    CHECK(rig.processors[2].events[0].offset == 63 && rig.processors[2].events[0].param == 0);
    close_rig(&rig);
}

static void each_member_has_a_bypass(void) {
    struct rig rig;
    open_rig(&rig, MEMBERS, 1);
    struct sigrack_event off = {0, CHAIN_PARAMS + CHAIN_ACTIVE, 0}, on = {0, CHAIN_PARAMS + CHAIN_ACTIVE, 1};
    play(&rig, 0, &off, 1); /* fades, which takes one frame here */
    play(&rig, 1, NULL, 0);
    expect_gain(&rig, 1, 8);
    play(&rig, 2, &on, 1);
    play(&rig, 3, NULL, 0);
    expect_gain(&rig, 3, 24);
    CHECK(rig.processors[1].event_count == 0); /* no parameter of its */
    close_rig(&rig);
}

static void what_is_no_sound_goes_no_further(void) {
    struct rig rig;
    open_rig(&rig, MEMBERS, 1);
    rig.processors[1].poison = NAN;
    play(&rig, 0, NULL, 0);
    expect_gain(&rig, 0, 8);
    CHECK(rig.processors[1].resets == 1 && core_slot_meters(rig.slots[1])->nonfinite == 1);
    CHECK(core_slot_meters(rig.slots[2])->nonfinite == 0);
    close_rig(&rig);
}

static void what_does_not_fit_is_refused(void) {
    struct rig rig;
    open_rig(&rig, MEMBERS, 1);
    CHECK(!core_chain_new(&rig.exchange, rig.slots, 0) && !core_chain_new(&rig.exchange, rig.slots, CHAIN_MOST + 1));
    struct processor other = {.gain = 1};
    struct core_slot *narrow = core_slot_new(&(struct core_slot_setup){
        .process = process, .self = &other, .channels = 1, .max_frames = QUANTUM, .fade_frames = 1, .active = 1});
    struct core_slot *brief = core_slot_new(&(struct core_slot_setup){
        .process = process, .self = &other, .channels = CHANNELS, .max_frames = QUANTUM - 1, .fade_frames = 1, .active = 1});
    CHECK(!core_chain_new(&rig.exchange, &narrow, 1) && !core_chain_new(&rig.exchange, &brief, 1));
    core_slot_free(narrow);
    core_slot_free(brief);
    close_rig(&rig);
}

int main(void) {
    fill_noise();
    members_play_one_behind_the_other();
    a_change_reaches_its_member_at_its_frame();
    each_member_has_a_bypass();
    what_is_no_sound_goes_no_further();
    what_does_not_fit_is_refused();
    return 0;
}
