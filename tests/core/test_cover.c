/* The cover: a child that keeps up is heard exactly; one that does not is covered for in that very block, without a step. */
#include "check.h"
#include "cover.h"
#include "threads.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#define CHANNELS 2u
#define QUANTUM 64u
#define FADE 200u
#define FRAMES 20000u

static float input[CHANNELS][FRAMES], output[CHANNELS][FRAMES];

/* One life of a child that gives minus three quarters of what it gets; it works when the test says so. */
struct child {
    struct core_exchange exchange;
    void *host, *own;
    uint64_t began; /* engine frame of its first frame */
};

static const struct core_exchange_shape shape = {CHANNELS, CHANNELS, 1, QUANTUM, 8};

static void child_open(struct child *child, uint64_t began) {
    struct core_exchange_sizes sizes = core_exchange_sizes(&shape);
    child->host = calloc(1, sizes.host);
    child->own = calloc(1, sizes.child);
    child->began = began;
    CHECK(core_exchange_open(&child->exchange, child->host, child->own, &shape, -1));
}

static void child_close(struct child *child) {
    free(child->host);
    free(child->own);
}

/* Process up to `quanta` whole quanta. */
static void child_work(struct child *child, uint32_t quanta) {
    struct core_exchange *x = &child->exchange;
    uint64_t done = atomic_load(&x->child->done);
    for (; quanta && done + QUANTUM <= atomic_load(&x->host->written); quanta--, done += QUANTUM)
        for (uint32_t c = 0; c < CHANNELS; c++)
            for (uint32_t i = 0; i < QUANTUM; i++) {
                size_t at = (size_t)c * x->capacity + (done + i) % x->capacity;
                x->out[at] = -0.75f * x->in[at];
            }
    atomic_store(&x->child->done, done);
}

static struct core_cover_setup setup_of(uint32_t channels, uint32_t most, uint32_t latency) {
    return (struct core_cover_setup){
        .channels = channels, .outputs = channels, .ratio = 1, .max_frames = most, .latency_frames = latency, .fade_frames = FADE};
}

static struct core_cover *cover_of(uint32_t most, int even) {
    struct core_cover_setup setup = setup_of(CHANNELS, most, core_cover_latency(QUANTUM, most, even));
    struct core_cover *cover = core_cover_new(&setup);
    CHECK(cover);
    return cover;
}

static void process(struct core_cover *cover, uint64_t at, uint32_t frames) {
    const float *in[] = {input[0] + at, input[1] + at};
    float *out[] = {output[0] + at, output[1] + at};
    struct sigrack_block block = {sizeof block, frames, at, in, out, CHANNELS, 0, NULL};
    CHECK(core_cover_process(cover, &block) == 0);
}

static float delayed(uint32_t channel, uint64_t frame, uint32_t latency) { return frame < latency ? 0 : input[channel][frame - latency]; }

static struct core_cover_stats stats_of(const struct core_cover *cover) {
    struct core_cover_stats stats;
    core_cover_stats(cover, &stats);
    return stats;
}

static void a_child_that_keeps_up_is_heard_exactly(uint32_t most, int even) {
    struct core_cover *cover = cover_of(most, even);
    uint32_t latency = core_cover_latency(QUANTUM, most, even);
    struct child child;
    uint64_t random = most;
    child_open(&child, 0);
    CHECK(!core_cover_give(cover, &child.exchange));
    for (uint64_t at = 0; at < FRAMES;) {
        uint32_t frames = even ? most : 1 + (uint32_t)draw(&random, most);
        frames = at + frames < FRAMES ? frames : (uint32_t)(FRAMES - at);
        process(cover, at, frames);
        child_work(&child, UINT32_MAX);
        at += frames;
    }
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint64_t n = 0; n < FRAMES; n++)
            CHECK(output[c][n] == -0.75f * delayed(c, n, latency));
    struct core_cover_stats stats = stats_of(cover);
    CHECK(stats.wet == FRAMES && stats.dry == 0 && stats.misses == 0 && stats.lives == 1 && stats.is_wet);
    core_cover_free(cover);
    child_close(&child);
}

/* The child rests in blocks 40 to 59. */
static void a_miss_is_covered_in_its_block_by_the_ideal_formula(void) {
    enum { RESTS = 40, WORKS = 60 };
    struct core_cover *cover = cover_of(QUANTUM, 1);
    uint32_t latency = QUANTUM;
    struct child child;
    child_open(&child, 0);
    core_cover_give(cover, &child.exchange);
    for (uint32_t b = 0; b < FRAMES / QUANTUM; b++) {
        process(cover, b * QUANTUM, QUANTUM);
        if (b < RESTS || b >= WORKS || b < RESTS + 4)
            child_work(&child, b < RESTS || b >= WORKS ? UINT32_MAX : 0);
    }
    /* Block 40 plays what was done in block 39; block 41 is the first without. Its ring holds 8 quanta, so in block 48 it is stuck. */
    uint64_t missed = (RESTS + 1) * QUANTUM;
    for (uint32_t c = 0; c < CHANNELS; c++) {
        float left = output[c][missed - 1] - delayed(c, missed - 1, latency);
        for (uint64_t n = 0; n < FRAMES / QUANTUM * QUANTUM; n++) {
            uint64_t k = n - missed + 1;
            float residue = k < FADE ? left * (1.0f - (float)k / FADE) : 0;
            float wanted = n < missed ? -0.75f * delayed(c, n, latency) : delayed(c, n, latency) + residue;
            CHECK(fabsf(output[c][n] - wanted) <= 1e-6f);
        }
    }
    struct core_cover_stats stats = stats_of(cover);
    CHECK(stats.misses == 1 && stats.stuck == 1 && stats.wet == missed && stats.wet + stats.dry == FRAMES / QUANTUM * QUANTUM);
    core_cover_free(cover);
    child_close(&child);
}

static void a_late_child_fades_in_again_when_it_has_kept_up_for_a_fade(void) {
    struct core_cover *cover = cover_of(QUANTUM, 1);
    uint32_t latency = QUANTUM, blocks = 30, late = 10;
    struct child child;
    child_open(&child, 0);
    core_cover_give(cover, &child.exchange);
    for (uint32_t b = 0; b < blocks; b++) {
        process(cover, b * QUANTUM, QUANTUM);
        if (b != late)
            child_work(&child, UINT32_MAX);
    }
    uint64_t missed = (late + 1) * QUANTUM, back = missed + QUANTUM;
    while ((back - missed - QUANTUM) + QUANTUM < FADE) /* the block with which it has kept up for a fade */
        back += QUANTUM;
    for (uint32_t c = 0; c < CHANNELS; c++) {
        float left = output[c][missed - 1] - delayed(c, missed - 1, latency);
        for (uint64_t n = missed; n < blocks * QUANTUM; n++) {
            uint64_t k = n - missed + 1, g = n - back + 1;
            float dry = delayed(c, n, latency) + (k < FADE ? left * (1.0f - (float)k / FADE) : 0);
            float gain = n < back ? 0 : g < FADE ? (float)g / FADE : 1, wet = -0.75f * delayed(c, n, latency);
            CHECK(fabsf(output[c][n] - (dry + gain * (wet - dry))) <= 1e-5f);
        }
    }
    struct core_cover_stats stats = stats_of(cover);
    CHECK(stats.misses == 1 && stats.dry == back - missed && stats.stuck == 0 && stats.is_wet);
    core_cover_free(cover);
    child_close(&child);
}

/* In block 40 what the child has made holds `value`, which is no sound: covered like a miss. */
static void what_is_no_sound_is_covered_in_its_block(float value, uint64_t bad) {
    enum { STRANGE = 40, BLOCKS = 80 };
    struct core_cover *cover = cover_of(QUANTUM, 1);
    struct child child;
    child_open(&child, 0);
    core_cover_give(cover, &child.exchange);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        process(cover, b * QUANTUM, QUANTUM);
        child_work(&child, UINT32_MAX);
        if (b == STRANGE)
            child.exchange.out[child.exchange.capacity + b * QUANTUM % child.exchange.capacity + 17] = value;
    }
    uint64_t missed = (STRANGE + 1) * QUANTUM;
    for (uint32_t c = 0; c < CHANNELS; c++) {
        float left = output[c][missed - 1] - delayed(c, missed - 1, QUANTUM);
        for (uint64_t n = missed; bad && n < missed + QUANTUM; n++) {
            float residue = left * (1.0f - (float)(n - missed + 1) / FADE);
            CHECK(fabsf(output[c][n] - (delayed(c, n, QUANTUM) + residue)) <= 1e-6f);
        }
    }
    struct core_cover_stats stats = stats_of(cover);
    CHECK(stats.bad == bad && stats.misses == bad && stats.is_wet);
    core_cover_free(cover);
    child_close(&child);
}

static void parameter_changes_reach_the_life_at_their_frames(void) {
    struct core_cover *cover = cover_of(QUANTUM, 1);
    struct child child;
    child_open(&child, 0);
    const float *in[] = {input[0], input[1]};
    float *out[] = {output[0], output[1]};
    struct sigrack_event events[] = {{3, 1, 0.5}, {63, 0, -2}};
    struct sigrack_block block = {sizeof block, QUANTUM, 0, in, out, CHANNELS, 2, events};
    core_cover_process(cover, &block); /* nobody is there: the next life begins with what the host knows */
    core_cover_give(cover, &child.exchange);
    core_cover_process(cover, &block);
    core_cover_process(cover, &block);
    const struct exchange_host *host = child.exchange.host;
    CHECK(atomic_load(&host->events_written) == 4);
    CHECK(host->events[0].frame == 3 && host->events[0].param == 1 && host->events[0].value == 0.5);
    CHECK(host->events[3].frame == QUANTUM + 63 && host->events[3].param == 0 && host->events[3].value == -2);
    for (uint32_t i = 0; i < EXCHANGE_EVENTS; i++) /* two each, with room for all but four */
        core_cover_process(cover, &block);
    CHECK(stats_of(cover).unset == EXCHANGE_EVENTS + 4);
    core_cover_free(cover);
    child_close(&child);
}

struct slow {
    struct child *child;
    uint64_t until;
};

static void *work_slowly(void *argument) {
    struct slow *slow = argument;
    while (atomic_load(&slow->child->exchange.child->done) < slow->until) {
        sched_yield();
        child_work(slow->child, 1);
    }
    core_exchange_lose(&slow->child->exchange);
    return NULL;
}

/* In freewheel the engine waits for a child as long as it lives. */
static void a_patient_engine_waits_for_a_slow_child_but_not_for_a_lost_one(void) {
    enum { BLOCKS = 60, WORKS = 40 };
    struct core_cover_setup setup = setup_of(CHANNELS, QUANTUM, QUANTUM);
    setup.patient = 1;
    struct core_cover *cover = core_cover_new(&setup);
    struct child child;
    child_open(&child, 0);
    core_cover_give(cover, &child.exchange);
    struct slow slow = {&child, WORKS * QUANTUM};
    pthread_t thread = thread_start(work_slowly, &slow);
    for (uint32_t b = 0; b < BLOCKS; b++)
        process(cover, b * QUANTUM, QUANTUM);
    thread_join(thread);
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint64_t n = 0; n < (WORKS + 1) * QUANTUM; n++)
            CHECK(output[c][n] == -0.75f * delayed(c, n, QUANTUM));
    struct core_cover_stats stats = stats_of(cover);
    CHECK(stats.wet == (WORKS + 1) * QUANTUM && stats.misses == 1 && stats.wet + stats.dry == BLOCKS * QUANTUM);
    core_cover_free(cover);
    child_close(&child);
}

/* Three frames for each, of the first channel's last five: the fallback of the next test. */
struct smear {
    float past[5];
};

static int smear(void *self, const struct sigrack_block *block) {
    struct smear *smear = self;
    for (uint32_t i = 0; i < block->frames; i++) {
        memmove(smear->past + 1, smear->past, 4 * sizeof(float));
        smear->past[0] = block->in[0][i];
        for (uint32_t k = 0; k < 3; k++)
            block->out[0][3 * i + k] = smear->past[k] + smear->past[k + 2];
    }
    return 0;
}

static void forget(void *self) { memset(self, 0, sizeof(struct smear)); }

static void a_reset_reaches_the_fallback(void) {
    struct smear fallback = {{1, 2, 3, 4, 5}};
    struct core_cover_setup setup = setup_of(CHANNELS, QUANTUM, QUANTUM);
    setup.fallback = smear;
    setup.reset = forget;
    setup.self = &fallback;
    struct core_cover *cover = core_cover_new(&setup);
    core_cover_reset(cover);
    for (int k = 0; k < 5; k++)
        CHECK(fallback.past[k] == 0);
    core_cover_free(cover);
}

/* A child that makes one channel of three times the rate out of two; it dies for good in block DIES, and an heir comes in block HEIR.
   With a fallback, the very same samples are heard throughout; without one, silence after what was left. */
static void a_child_that_changes_the_rate_has_a_fallback_or_fades_to_silence(int has_fallback) {
    enum { RATIO = 3, DIES = 30, HEIR = 50, BLOCKS = 90, MADE = RATIO * QUANTUM };
    static const struct core_exchange_shape other = {CHANNELS, 1, RATIO, QUANTUM, 8};
    static float made[RATIO * FRAMES], wanted[RATIO * FRAMES];
    struct smear fallback = {{0}}, children[2] = {{{0}}, {{0}}}, reference = {{0}};
    struct core_cover_setup setup = setup_of(CHANNELS, QUANTUM, QUANTUM);
    setup.outputs = 1;
    setup.ratio = RATIO;
    setup.fallback = has_fallback ? smear : NULL;
    setup.self = &fallback;
    struct core_cover *cover = core_cover_new(&setup);
    struct core_exchange lives[2];
    void *memory[4];
    struct core_exchange_sizes sizes = core_exchange_sizes(&other);
    for (int i = 0; i < 2; i++) {
        memory[2 * i] = calloc(1, sizes.host);
        memory[2 * i + 1] = calloc(1, sizes.child);
        CHECK(core_exchange_open(&lives[i], memory[2 * i], memory[2 * i + 1], &other, -1) && core_cover_fits(cover, &lives[i]));
    }
    core_cover_give(cover, &lives[0]);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        uint32_t at = b * QUANTUM;
        const float *in[] = {input[0] + at, input[1] + at};
        float *out[] = {made + RATIO * at}, *all[] = {wanted + RATIO * at};
        smear(&reference, &(struct sigrack_block){sizeof(struct sigrack_block), QUANTUM, at, in, all, 2, 0, NULL});
        if (b == HEIR) { /* one that knows the past, as a filter with its input's history does */
            for (uint32_t i = 0; i < 5; i++)
                children[1].past[i] = input[0][at - 1 - i];
            core_cover_give(cover, &lives[1]);
        }
        core_cover_process(cover, &(struct sigrack_block){sizeof(struct sigrack_block), QUANTUM, at, in, out, 2, 0, NULL});
        int who = b >= HEIR;
        struct core_exchange *x = &lives[who];
        uint64_t done = atomic_load(&x->child->done);
        if ((b >= DIES && b < HEIR) || done + QUANTUM > atomic_load(&x->host->written))
            continue;
        const float *given[] = {x->in + done % x->capacity, x->in + x->capacity + done % x->capacity};
        float *gives[] = {x->out + done % x->capacity * RATIO};
        smear(&children[who], &(struct sigrack_block){sizeof(struct sigrack_block), QUANTUM, done, given, gives, 2, 0, NULL});
        atomic_store(&x->child->done, done + QUANTUM);
    }
    for (uint32_t n = 0; n < BLOCKS * MADE; n++) {
        float right = n < MADE ? 0 : wanted[n - MADE];
        uint32_t missed = (DIES + 1) * MADE, k = n - missed + 1;
        if (has_fallback || n < missed || n >= (HEIR + 1) * MADE + 2 * FADE + 2 * MADE)
            CHECK(fabsf(made[n] - right) <= 1e-6f);
        else if (n < HEIR * MADE)
            CHECK(fabsf(made[n] - (k < FADE ? made[missed - 1] * (1.0f - (float)k / FADE) : 0)) <= 1e-6f);
    }
    struct core_cover_stats stats = stats_of(cover);
    CHECK(stats.wet + stats.dry == BLOCKS * MADE && stats.misses == 1 && stats.lives == 2 && stats.is_wet);
    CHECK(core_cover_collect(cover) == &lives[0]);
    core_cover_free(cover);
    for (int i = 0; i < 4; i++)
        free(memory[i]);
}

/* A child dies, and its heir hears all from the next block on: what stands for them is heard until the heir is warm, to the frame. */
static void an_heir_takes_over_when_it_is_warm(uint32_t warm, int silent) {
    enum { DIES = 10 * QUANTUM };
    struct core_cover_setup setup = setup_of(CHANNELS, QUANTUM, QUANTUM);
    setup.warm_frames = warm;
    setup.silent = (uint32_t)silent;
    struct core_cover *cover = core_cover_new(&setup);
    struct child children[2];
    child_open(&children[0], 0);
    child_open(&children[1], DIES);
    core_cover_give(cover, &children[0].exchange);
    for (uint64_t at = 0; at + QUANTUM <= FRAMES; at += QUANTUM) {
        if (at == DIES)
            core_cover_give(cover, &children[1].exchange);
        process(cover, at, QUANTUM);
        child_work(&children[at >= DIES], UINT32_MAX);
    }
    uint64_t kept_up = DIES + (FADE + QUANTUM - 1) / QUANTUM * QUANTUM - QUANTUM, until = DIES + QUANTUM + (warm + QUANTUM - 1) / QUANTUM * QUANTUM;
    until = until > kept_up ? until : kept_up;
    for (uint64_t n = DIES + FADE; n < until; n++)
        CHECK(output[0][n] == (silent ? 0 : delayed(0, n, QUANTUM)));
    CHECK(stats_of(cover).dry == until - DIES);
    for (uint64_t n = until + FADE + QUANTUM; n < FRAMES / QUANTUM * QUANTUM; n++)
        CHECK(output[0][n] == -0.75f * delayed(0, n, QUANTUM));
    core_cover_free(cover);
    child_close(&children[0]);
    child_close(&children[1]);
}

static void what_a_child_claims_is_not_believed(uint64_t lie) {
    struct core_cover *cover = cover_of(QUANTUM, 1);
    struct child child;
    child_open(&child, 0);
    core_cover_give(cover, &child.exchange);
    for (uint32_t b = 0; b < 20; b++) {
        process(cover, b * QUANTUM, QUANTUM);
        for (uint32_t i = 0; i < child.exchange.capacity; i++)
            child.exchange.out[i] = 1; /* what it says to have made */
        atomic_store(&child.exchange.child->done, lie);
    }
    for (uint64_t n = QUANTUM; n < 20 * QUANTUM; n++) {
        float residue = n - QUANTUM < FADE ? -delayed(0, QUANTUM - 1, QUANTUM) * (1.0f - (float)(n - QUANTUM + 1) / FADE) : 0;
        CHECK(fabsf(output[0][n] - (delayed(0, n, QUANTUM) + residue)) <= 1e-6f);
    }
    CHECK(stats_of(cover).lies == 1 && stats_of(cover).wet == QUANTUM);
    core_cover_free(cover);
    child_close(&child);
}

/* A child that works as it likes, dies, and has successors: whatever it does, there is no step larger than the signals' own, and when
   the last one keeps up it is heard exactly. */
static void random_deaths_and_delays_leave_no_step(uint64_t seed) {
    enum { LIVES = 6 };
    struct core_cover *cover = cover_of(100, 0);
    uint32_t latency = core_cover_latency(QUANTUM, 100, 0), lives = 0, given = 0;
    struct child children[LIVES];
    uint64_t random = seed, at = 0, ends = 0;
    while (at < FRAMES) {
        if (at >= ends && lives < LIVES) {
            child_open(&children[lives], at);
            struct core_exchange *never = core_cover_give(cover, &children[lives++].exchange);
            given += !never;
            ends = at + (lives < LIVES ? draw(&random, 4000) : FRAMES);
        }
        uint32_t frames = 1 + (uint32_t)draw(&random, 100);
        frames = at + frames < FRAMES ? frames : (uint32_t)(FRAMES - at);
        process(cover, at, frames);
        core_cover_collect(cover);
        at += frames;
        if (lives == LIVES && at > FRAMES / 2)
            child_work(&children[LIVES - 1], UINT32_MAX);
        else
            child_work(&children[lives - 1], (uint32_t)draw(&random, 4));
    }
    struct core_cover_stats stats = stats_of(cover);
    CHECK(stats.wet + stats.dry == FRAMES && stats.lives == given && stats.misses > 1);
    /* The input moves by less than 0.02 per frame, a fade by 4 / FADE: both signals are below 1, and their signs are opposite. */
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint64_t n = latency + 1; n < FRAMES; n++)
            CHECK(fabsf(output[c][n] - output[c][n - 1]) < 0.02f + 4.0f / FADE);
    CHECK(stats.is_wet);
    for (uint64_t n = FRAMES - 100; n < FRAMES; n++)
        CHECK(output[0][n] == -0.75f * delayed(0, n, latency));
    core_cover_free(cover);
    for (uint32_t l = 0; l < lives; l++)
        child_close(&children[l]);
}

static void bad_numbers_are_refused(void) {
    static const struct core_exchange_shape bad[] = {{0, 2, 1, QUANTUM, 8}, {33, 2, 1, QUANTUM, 8}, {2, 2, 1, 65537, 8}, {2, 2, 1, 0, 8},  {2, 2, 1, QUANTUM, 0},
                                                       {2, 2, 1, 1, 1025},     {2, 0, 1, QUANTUM, 8},  {2, 33, 1, QUANTUM, 8}, {2, 2, 0, QUANTUM, 8}, {2, 2, 33, QUANTUM, 8}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!core_exchange_sizes(&bad[i]).host);
    const struct core_cover_setup early = setup_of(2, 64, 63), none = setup_of(0, 64, 64);
    CHECK(!core_cover_new(&early) && !core_cover_new(&none));
    CHECK(core_cover_latency(64, 64, 1) == 64 && core_cover_latency(256, 64, 1) == 256 && core_cover_latency(64, 256, 1) == 256);
    CHECK(core_cover_latency(64, 100, 1) == 164 && core_cover_latency(64, 64, 0) == 128);
}

/* Rings of eight quanta hold a latency and a block, or the child would write where the host reads. */
static void a_life_must_fit(void) {
    struct child child;
    child_open(&child, 0);
    const struct {
        struct core_cover_setup setup;
        int fits;
    } cases[] = {
        {setup_of(CHANNELS, QUANTUM, QUANTUM), 1},         {setup_of(CHANNELS, 4 * QUANTUM, 4 * QUANTUM), 1},
        {setup_of(CHANNELS, 5 * QUANTUM, 5 * QUANTUM), 0}, {setup_of(CHANNELS, 16, QUANTUM - 1), 0},
        {setup_of(CHANNELS + 1, QUANTUM, QUANTUM), 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct core_cover *cover = core_cover_new(&cases[i].setup);
        CHECK(cover && core_cover_fits(cover, &child.exchange) == cases[i].fits);
        core_cover_free(cover);
    }
    child_close(&child);
}

int main(void) {
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t n = 0; n < FRAMES; n++)
            input[c][n] = 0.5f * sinf(0.011f * (float)n * (float)(c + 2)) + 0.1f;
    a_child_that_keeps_up_is_heard_exactly(QUANTUM, 1);
    a_child_that_keeps_up_is_heard_exactly(4 * QUANTUM, 1);
    a_child_that_keeps_up_is_heard_exactly(QUANTUM / 4, 1);
    a_child_that_keeps_up_is_heard_exactly(100, 1);
    a_child_that_keeps_up_is_heard_exactly(100, 0);
    a_miss_is_covered_in_its_block_by_the_ideal_formula();
    a_late_child_fades_in_again_when_it_has_kept_up_for_a_fade();
    what_is_no_sound_is_covered_in_its_block(NAN, 1);
    what_is_no_sound_is_covered_in_its_block(INFINITY, 1);
    what_is_no_sound_is_covered_in_its_block(-1e34f, 1);
    what_is_no_sound_is_covered_in_its_block(1e5f, 0);
    parameter_changes_reach_the_life_at_their_frames();
    a_patient_engine_waits_for_a_slow_child_but_not_for_a_lost_one();
    a_child_that_changes_the_rate_has_a_fallback_or_fades_to_silence(1);
    a_child_that_changes_the_rate_has_a_fallback_or_fades_to_silence(0);
    a_reset_reaches_the_fallback();
    an_heir_takes_over_when_it_is_warm(1000, 0);
    an_heir_takes_over_when_it_is_warm(1000, 1);
    an_heir_takes_over_when_it_is_warm(0, 1);
    what_a_child_claims_is_not_believed(UINT64_MAX);
    what_a_child_claims_is_not_believed(1u << 20);
    for (uint64_t seed = 1; seed <= 50; seed++)
        random_deaths_and_delays_leave_no_step(seed);
    a_life_must_fit();
    bad_numbers_are_refused();
    return 0;
}
