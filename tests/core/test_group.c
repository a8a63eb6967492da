/* The group: a filter is replaced while it plays, and the output is the ideal cross-fade of two full-history outputs. */
#include "check.h"
#include "fir.h"
#include "group.h"
#include "threads.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define FRAMES 60000u
#define TAPS 9000u
#define MOST 512u
#define FADE 700u
#define FILTERS 3u

static float input[2][FRAMES], output[2][2 * FRAMES];
static float taps[FILTERS][2 * 2 * TAPS];

static float noise(void) {
    static uint32_t counter;
    uint32_t bits = counter++ * 0x9e3779b9u;
    bits = (bits ^ bits >> 16) * 0x85ebca6bu;
    bits = (bits ^ bits >> 13) * 0xc2b2ae35u;
    bits ^= bits >> 16;
    return (float)(int32_t)bits / 2147483648.0f;
}

static void make_signals(void) {
    for (uint32_t n = 0; n < FRAMES; n++)
        input[0][n] = noise(), input[1][n] = noise();
    for (uint32_t f = 0; f < FILTERS; f++)
        for (uint32_t k = 0; k < 4 * TAPS; k++)
            taps[f][k] = noise() * expf(-5.0f * (float)(k % TAPS) / TAPS);
}

static struct core_filter *fir_of(uint32_t filter, uint32_t phases) {
    struct core_fir_spec spec = {2, 2, phases, TAPS, taps[filter], 256, {256, 1024}};
    struct core_filter *fir = core_fir_new(&spec);
    CHECK(fir);
    return fir;
}

static struct core_group *group_of(uint32_t filter, uint32_t ratio, uint32_t history) {
    struct core_group *group = core_group_new(&(struct core_group_setup){2, 2, MOST, ratio, history, FADE}, fir_of(filter, ratio));
    CHECK(group);
    return group;
}

static void process(struct core_group *group, uint32_t at, uint32_t frames, uint32_t ratio) {
    const float *in[] = {input[0] + at, input[1] + at};
    float *out[] = {output[0] + at * ratio, output[1] + at * ratio};
    struct sigrack_block block = {sizeof block, frames, at, in, out, 2, 0, NULL};
    CHECK(core_group_process(group, &block) == 0);
}

/* What filter `filter` gives at output frame `frame`, by definition. */
static double reference(uint32_t filter, uint32_t channel, uint32_t frame, uint32_t ratio) {
    double sum = 0;
    for (uint32_t i = 0; i < 2; i++)
        for (uint32_t k = frame % ratio; k < TAPS && k <= frame; k += ratio)
            sum += (double)taps[filter][(channel * 2 + i) * TAPS + k] * input[i][(frame - k) / ratio];
    return sum;
}

/* The error of the ideal cross-fade from `old` to `new` that begins at output frame `start`. */
static double error_db(uint32_t old, uint32_t new, uint32_t start, uint32_t from, uint32_t to, uint32_t stride, uint32_t ratio) {
    double error = 0, peak = 0;
    for (uint32_t n = from; n < to; n += stride) {
        double g = n < start ? 0 : n - start + 1 < FADE ? (double)(n - start + 1) / FADE : 1;
        double wanted = (1 - g) * reference(old, n % 2, n, ratio) + g * reference(new, n % 2, n, ratio);
        error = fmax(error, fabs(output[n % 2][n] - wanted));
        peak = fmax(peak, fabs(wanted));
    }
    return 20 * log10(error / peak);
}

/* Let `fir` catch up with the whole history, as a worker does. Returns where it stands. */
static uint64_t catch_up(const struct core_group *group, struct core_filter *fir) {
    uint64_t at;
    while ((at = core_group_feed(group, fir, core_group_oldest(group), UINT32_MAX, 1)) == GROUP_LOST)
        core_filter_reset(fir); /* what was the oldest frame has gone meanwhile */
    core_filter_catch_up(fir);
    return core_group_feed(group, fir, at, UINT32_MAX, 0);
}

static void a_change_is_the_ideal_cross_fade(void) {
    const uint32_t lags[] = {0, 1, MOST, 2 * MOST};
    for (uint32_t ratio = 1; ratio <= 2; ratio++) {
        for (uint32_t l = 0; l < 4; l++) {
            struct core_group *group = group_of(0, ratio, TAPS);
            uint32_t at = 0, start = 0;
            for (uint32_t block = 0; at < 30000; block++) {
                uint32_t frames = 1 + (block * 7919u) % MOST;
                if (at > 15000 && !start) {
                    struct core_filter *fir = fir_of(1, ratio);
                    uint64_t stands = catch_up(group, fir);
                    CHECK(stands == at);
                    for (uint32_t late = 0; late < lags[l]; late += MOST) { /* the engine goes on meanwhile */
                        process(group, at, lags[l] < MOST ? lags[l] : MOST, ratio);
                        at += lags[l] < MOST ? lags[l] : MOST;
                    }
                    CHECK(core_group_offer(group, fir, stands) == at);
                    start = at * ratio;
                }
                process(group, at, frames, ratio);
                at += frames;
            }
            CHECK(core_group_changes(group) == 1);
            struct core_filter *gone = core_group_collect(group);
            CHECK(gone && !core_group_collect(group));
            core_filter_free(gone);
            CHECK(error_db(0, 1, start, start - 500, start + FADE + 500, 3, ratio) < -110);
            CHECK(error_db(0, 1, start, start + FADE, at * ratio, 97, ratio) < -120);
            CHECK(error_db(0, 1, start + 8, start - 500, start + FADE + 500, 3, ratio) > -70); /* the test can fail */
            core_group_free(group);
        }
    }
}

/* While the filter that was faded out before is not collected, an offer waits and lags: up to two blocks are made up for. */
static void what_an_offer_lags_is_made_up_for(void) {
    for (uint32_t lag = 0; lag <= 3; lag++) {
        struct core_group *group = group_of(0, 1, TAPS);
        uint32_t at = 0;
        CHECK(core_group_offer(group, fir_of(1, 1), 0) == 0);
        for (; at < 8 * MOST; at += MOST)
            process(group, at, MOST, 1);
        struct core_filter *fir = fir_of(2, 1);
        CHECK(core_group_changes(group) == 1 && core_group_offer(group, fir, catch_up(group, fir)) == at);
        for (uint32_t end = at + lag * MOST; at < end; at += MOST)
            process(group, at, MOST, 1);
        core_filter_free(core_group_collect(group));
        uint32_t start = at;
        for (uint32_t end = at + 6 * MOST; at < end; at += MOST)
            process(group, at, MOST, 1);
        if (lag == 3) { /* too much: who has offered takes it back, and offers it anew */
            CHECK(core_group_changes(group) == 1 && core_group_busy(group) && core_group_withdraw(group));
            CHECK(!core_group_withdraw(group) && !core_group_busy(group));
            CHECK(core_group_offer(group, fir, 8 * MOST) == at);
            start = at;
            for (uint32_t end = at + 6 * MOST; at < end; at += MOST)
                process(group, at, MOST, 1);
        }
        CHECK(core_group_changes(group) == 2);
        CHECK(error_db(1, 2, start, start, start + FADE + MOST, 3, 1) < -110);
        core_group_free(group); /* with the one that was not collected */
    }
}

static void one_change_at_a_time(void) {
    struct core_group *group = group_of(0, 1, TAPS);
    struct core_filter *fir = NULL;
    uint32_t at = 0;
    for (uint32_t f = 1; f < FILTERS; f++) {
        fir = fir_of(f, 1);
        CHECK(core_group_offer(group, fir, catch_up(group, fir)) == at);
        for (uint32_t end = at + 4 * MOST; at < end; at += MOST)
            process(group, at, MOST, 1);
    }
    CHECK(core_group_changes(group) == 1); /* the second waits until the first one's old filter was collected */
    core_filter_free(core_group_collect(group));
    CHECK(core_group_withdraw(group));
    core_filter_free(fir);
    core_group_free(group);
}

static void what_was_kept_is_bounded(void) {
    struct core_group *group = group_of(0, 1, 1000);
    struct core_filter *fir = fir_of(1, 1);
    for (uint32_t at = 0; at < 100 * MOST; at += MOST)
        process(group, at, MOST, 1);
    CHECK(core_group_oldest(group) >= 100 * MOST - 16384 && core_group_oldest(group) <= 100 * MOST - 1000);
    CHECK(core_group_feed(group, fir, core_group_oldest(group) - 1, 10, 1) == GROUP_LOST);
    core_group_reset(group);
    CHECK(core_group_oldest(group) == 100 * MOST);
    core_filter_free(fir);
    core_group_free(group);
}

static void impossible_arguments_are_refused(void) {
    struct core_filter *fir = fir_of(0, 1);
    CHECK(!core_group_new(&(struct core_group_setup){0, 0, MOST, 1, 100, 1}, fir));
    CHECK(!core_group_new(&(struct core_group_setup){SIGRACK_MAX_CHANNELS + 1, 2, MOST, 1, 100, 1}, fir));
    CHECK(!core_group_new(&(struct core_group_setup){2, 2, 0, 1, 100, 1}, fir));
    CHECK(!core_group_new(&(struct core_group_setup){2, 2, MOST, 0, 100, 1}, fir));
    CHECK(!core_group_new(&(struct core_group_setup){2, 2, MOST, 1, 100, 0}, fir));
    CHECK(!core_group_new(&(struct core_group_setup){2, 2, MOST, 1, 100, 1}, NULL));
    core_filter_free(fir);
    core_group_free(NULL);
}

/* An engine thread plays; this thread changes the filter again and again while it does. */
struct player {
    struct core_group *group;
    atomic_uint at;
    uint32_t started[64]; /* output frame at which change number n began */
};

#define BLOCK 64u
static void *play(void *argument) {
    struct player *player = argument;
    uint64_t changes = 0;
    for (uint32_t at = 0; at + BLOCK <= FRAMES; at += BLOCK) {
        process(player->group, at, BLOCK, 1);
        if (core_group_changes(player->group) > changes)
            player->started[changes++ % 64] = at + BLOCK - (FADE + BLOCK - 1) / BLOCK * BLOCK;
        atomic_store(&player->at, at + BLOCK);
        nanosleep(&(struct timespec){0, 1000000}, NULL); /* the pace of a live rack */
    }
    return NULL;
}

static void changes_beside_a_running_engine_are_ideal(void) {
    struct player player = {.group = group_of(0, 1, TAPS + 20000)};
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, play, &player));
    uint32_t filter = 0, wanted = 0;
    while (atomic_load(&player.at) < FRAMES - 12000 && wanted < 60) {
        struct core_filter *fir = fir_of(++filter % FILTERS, 1);
        uint64_t at = catch_up(player.group, fir);
        int taken = 0;
        wanted++;
        while (core_group_changes(player.group) < wanted && atomic_load(&player.at) < FRAMES - BLOCK) {
            at = core_group_offer(player.group, fir, at);
            if (at == GROUP_LOST) { /* this thread slept for longer than the group keeps */
                core_filter_reset(fir);
                at = catch_up(player.group, fir);
                continue;
            }
            uint32_t offered = atomic_load(&player.at);
            while (atomic_load(&player.at) < offered + 4 * BLOCK && atomic_load(&player.at) < FRAMES - BLOCK)
                sched_yield();
            taken = !core_group_withdraw(player.group);
            if (taken)
                break;
        }
        while (core_group_changes(player.group) < wanted && atomic_load(&player.at) < FRAMES - BLOCK)
            sched_yield();
        core_filter_free(core_group_collect(player.group));
        if (!taken)
            core_filter_free(fir);
    }
    CHECK(!pthread_join(thread, NULL));
    uint64_t changes = core_group_changes(player.group);
    CHECK(changes > 0);
    for (uint32_t c = 0; c < changes; c++) {
        uint32_t start = player.started[c], end = start + FADE; /* the next one may begin right behind it */
        CHECK(error_db(c % FILTERS, (c + 1) % FILTERS, start, start, end, 13, 1) < -110);
    }
    core_group_free(player.group);
}

int main(void) {
    make_signals();
    a_change_is_the_ideal_cross_fade();
    what_an_offer_lags_is_made_up_for();
    one_change_at_a_time();
    what_was_kept_is_bounded();
    impossible_arguments_are_refused();
    changes_beside_a_running_engine_are_ideal();
    return 0;
}
