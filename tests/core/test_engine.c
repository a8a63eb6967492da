/* The engine: the way through a run list, its counters, and its floating-point mode. */
#include <math.h>

#include "affine.h"

static void impossible_engines_and_lists_are_refused(void) {
    CHECK(!core_engine_new(0, 64, 1) && !core_engine_new(SIGRACK_MAX_CHANNELS + 1, 64, 1) && !core_engine_new(2, 0, 1));
    struct core_engine *engine = engine_new();
    CHECK(!core_engine_set_ratio(engine, 0) && !core_engine_set_ratio(engine, ENGINE_MAX_RATIO + 1));
    core_engine_free(engine);
    static const struct core_step steps[256];
    CHECK(!core_run_list_new(steps, 256));
    struct core_run_list *list = core_run_list_new(steps, 255);
    CHECK(list);
    core_run_list_free(list);
    core_run_list_free(NULL);
    core_engine_free(NULL);
}

static void without_a_list_the_input_passes(void) {
    struct core_engine *engine = engine_new();
    CHECK(run_one(engine, 0.25f) == 0.25f);
    CHECK(!core_engine_publish(engine, list_of(NULL), 0));
    CHECK(run_one(engine, 0.5f) == 0.5f);
    core_engine_free(engine);
}

static void slots_follow_each_other_and_a_tap_sees_its_place(void) {
    struct core_engine *engine = engine_new();
    struct core_bell *bell = core_bell_new();
    struct affine stages[5];
    struct core_step steps[11];
    for (uint32_t i = 0; i < 5; i++)
        stages[i] = (struct affine){2, (float)i};
    for (uint32_t i = 0; i < 11; i++)
        steps[i] = i % 2 ? (struct core_step){.slot = slot_of(process, &stages[i / 2])}
                         : (struct core_step){.tap = core_tap_new(CHANNELS, 64, 64, bell)};
    run(engine, 0, 10);
    core_engine_publish(engine, core_run_list_new(steps, 11), 0);
    run(engine, 1, 3);
    float expected = 1;
    for (uint32_t i = 0; i < 11; i++) {
        if (steps[i].slot) {
            expected = expected * 2 + (float)(i / 2);
            core_slot_free(steps[i].slot);
            continue;
        }
        float seen[CHANNELS * 3];
        CHECK(core_tap_peek(steps[i].tap, 64, &(int){0}) == 3 && core_tap_read_interleaved(steps[i].tap, seen, 3) == 10);
        for (uint32_t k = 0; k < CHANNELS * 3; k++)
            CHECK(seen[k] == expected);
        core_tap_free(steps[i].tap);
    }
    for (uint32_t c = 0; c < CHANNELS; c++)
        CHECK(last_out[c][0] == expected && last_out[c][2] == expected);
    core_bell_free(bell);
    core_engine_free(engine);
}

/* A processor that writes each frame three times, and says so. */
static uint64_t seen_frame;
static int thrice(void *self, const struct sigrack_block *block) {
    (void)self;
    for (uint32_t c = 0; c < block->channels; c++)
        for (uint32_t i = 0; i < 3 * block->frames; i++)
            block->out[c][i] = block->in[c][i / 3];
    return 0;
}

static int notice(void *self, const struct sigrack_block *block) {
    seen_frame = block->frame;
    return process(self, block);
}

static void a_slot_may_raise_the_rate_for_those_behind_it(void) {
    struct core_engine *engine = core_engine_new(CHANNELS, 20, 1);
    struct core_bell *bell = core_bell_new();
    struct core_tap *before = core_tap_new(CHANNELS, 64, 64, bell), *after = core_tap_new(CHANNELS, 64, 64, bell);
    struct affine twice = {2, 0};
    struct core_slot *faster = core_slot_new(&(struct core_slot_setup){
        .process = thrice, .channels = CHANNELS, .max_frames = 20, .ratio = 3, .fade_frames = 1, .active = 1});
    struct core_slot *behind = slot_of(notice, &twice);
    CHECK(core_engine_set_ratio(engine, 3));
    struct core_step steps[] = {{.tap = before}, {.slot = faster}, {.slot = behind}, {.tap = after}};
    core_engine_publish(engine, core_run_list_new(steps, 4), 0);
    run(engine, 1, 10);
    run(engine, 2, 4);
    CHECK(stats_of(engine).frame == 14 && seen_frame == 30);
    for (uint32_t i = 0; i < 12; i++)
        CHECK(last_out[0][i] == 4 && last_out[1][i] == 4);
    float seen[CHANNELS * 64];
    CHECK(core_tap_peek(before, 64, &(int){0}) == 14 && core_tap_peek(after, 64, &(int){0}) == 42);
    CHECK(core_tap_read_interleaved(after, seen, 30) == 0 && core_tap_read_interleaved(after, seen, 12) == 30);

    struct core_run_list *wrong = core_run_list_new(steps, 1); /* of another ratio than the engine's */
    core_engine_publish(engine, wrong, 0);
    run(engine, 1, 2);
    for (uint32_t i = 0; i < 6; i++)
        CHECK(last_out[0][i] == 0 && last_out[1][i] == 0);
    core_slot_free(faster), core_slot_free(behind);
    core_tap_free(before), core_tap_free(after);
    core_bell_free(bell);
    core_engine_free(engine);
}

static void bad_input_is_silence_and_counted(void) {
    struct core_engine *engine = engine_new();
    struct affine same = {1, 0};
    struct core_slot *slots[2] = {slot_of(process, &same), slot_of(process, &same)};
    core_engine_publish(engine, core_run_list_new((struct core_step[]){{.slot = slots[0]}, {.slot = slots[1]}}, 2), 0);
    float left[3] = {0.5f, NAN, 0.25f}, right[3] = {INFINITY, 0.125f, -INFINITY};
    core_engine_block(engine, (const float *[]){left, right}, (float *[]){last_out[0], last_out[1]}, 3);
    CHECK(last_out[0][0] == 0.5f && last_out[0][1] == 0 && last_out[0][2] == 0.25f);
    CHECK(last_out[1][0] == 0 && last_out[1][1] == 0.125f && last_out[1][2] == 0);
    CHECK(stats_of(engine).bad_input == 1);
    CHECK(run_one(engine, 0.75f) == 0.75f && stats_of(engine).bad_input == 1);
    CHECK(core_slot_meters(slots[0])->nonfinite == 0);
    core_engine_free(engine);
    core_slot_free(slots[0]);
    core_slot_free(slots[1]);
}

static void samples_at_full_scale_are_counted_at_the_output(void) {
    struct core_engine *engine = engine_new();
    struct affine twice = {2, 0};
    struct core_slot *slot = slot_of(process, &twice);
    run(engine, nextafterf(1.0f, 0.0f), 9);
    CHECK(stats_of(engine).clipped == 0);
    run(engine, -1.0f, 9);
    CHECK(stats_of(engine).clipped == 9 * CHANNELS);
    core_engine_publish(engine, list_of(slot), 0);
    run(engine, 0.49f, 40);
    CHECK(stats_of(engine).clipped == 9 * CHANNELS);
    run(engine, 0.51f, 37);
    CHECK(stats_of(engine).clipped == (9 + 37) * CHANNELS);
    core_engine_fade_out(engine);
    for (int block = 0; block < 4; block++)
        run(engine, 0.51f, 50); /* the fade's first frames are above full scale; then it counts what is heard, not what is made */
    CHECK(stats_of(engine).clipped == (9 + 37 + 1) * CHANNELS);
    core_engine_free(engine);
    core_slot_free(slot);
}

static void counters_follow_the_blocks(void) {
    struct core_engine *engine = engine_new();
    CHECK(stats_of(engine).first_block_ns == 0);
    run(engine, 0, 64);
    run(engine, 0, 7);
    struct core_engine_stats stats = stats_of(engine);
    CHECK(stats.frame == 71 && stats.blocks == 2 && stats.progress == 2 << 8 && stats.applied == 0 && stats.first_block_ns > 0);
    CHECK(atomic_load(core_engine_frame(engine)) == 71);
    core_engine_publish(engine, list_of(NULL), 0);
    run(engine, 0, 1);
    CHECK(stats_of(engine).applied == 1 && stats_of(engine).first_block_ns == stats.first_block_ns);
    core_engine_free(engine);
}

/* A processor that looks at the engine from inside. */
struct observer {
    struct core_engine *engine;
    uint64_t progress, frame;
};

static int observe(void *self, const struct sigrack_block *block) {
    struct observer *observer = self;
    observer->progress = stats_of(observer->engine).progress;
    observer->frame = block->frame;
    CHECK(block->frames <= MOST && block->size == sizeof *block && block->channels == CHANNELS);
    return 0;
}

static void time_passes_at_one_stroke_only_where_nothing_would_run(void) {
    struct core_engine *engine = engine_new();
    struct affine stage = {2, 0};
    struct core_slot *slot = slot_of(process, &stage);
    CHECK(!core_engine_skip(engine, 100)); /* nothing was published yet */
    core_engine_publish(engine, core_run_list_new(NULL, 0), 0);
    CHECK(!core_engine_skip(engine, 100)); /* it waits for a block */
    run(engine, 0, 1);
    CHECK(core_engine_skip(engine, 1ull << 40) && core_engine_skip(engine, 5));
    struct core_engine_stats stats;
    core_engine_stats(engine, &stats);
    CHECK(stats.frame == (1ull << 40) + 6 && stats.blocks == 1);
    core_engine_publish(engine, core_run_list_new(&(struct core_step){.slot = slot}, 1), 0);
    CHECK(!core_engine_skip(engine, 100));
    run(engine, 0, 1);
    CHECK(!core_engine_skip(engine, 100)); /* the slot must see them */
    core_engine_free(engine);
    core_slot_free(slot);
}

static void progress_names_the_block_and_the_step(void) {
    struct core_engine *engine = engine_new();
    struct observer observers[2] = {{.engine = engine}, {.engine = engine}};
    struct core_slot *slots[2] = {slot_of(observe, &observers[0]), slot_of(observe, &observers[1])};
    core_engine_publish(engine, core_run_list_new((struct core_step[]){{.slot = slots[0]}, {.slot = slots[1]}}, 2), 0);
    run(engine, 0, 5);
    run(engine, 0, 6);
    CHECK(observers[0].progress == (1 << 8 | 1) && observers[1].progress == (1 << 8 | 2) && observers[1].frame == 5);
    core_engine_free(engine);
    core_slot_free(slots[0]);
    core_slot_free(slots[1]);
}

#if defined(__x86_64__)
#include <xmmintrin.h>

/* Half of a denormal number: zero where they are flushed. */
static float half_a_denormal(void) {
    volatile float tiny = 1e-40f;
    return tiny * 0.5f;
}

static int look_at_numbers(void *self, const struct sigrack_block *block) {
    (void)block;
    *(int *)self = half_a_denormal() == 0 && _MM_GET_ROUNDING_MODE() == _MM_ROUND_NEAREST;
    return 0;
}

static int spoil_the_register(void *self, const struct sigrack_block *block) {
    (void)self, (void)block;
    _mm_setcsr((_mm_getcsr() & ~0x8040u) | _MM_ROUND_UP);
    return 0;
}

static void numbers_are_as_usual_inside_and_only_there(void) {
    struct core_engine *engine = engine_new();
    int first = 0, last = 0;
    struct core_slot *slots[3] = {slot_of(look_at_numbers, &first), slot_of(spoil_the_register, NULL),
                                  slot_of(look_at_numbers, &last)};
    struct core_step steps[3] = {{.slot = slots[0]}, {.slot = slots[1]}, {.slot = slots[2]}};
    core_engine_publish(engine, core_run_list_new(steps, 3), 0);
    uint32_t usual = _mm_getcsr();
    for (int block = 0; block < 3; block++) {
        if (block == 2) /* as a hook may have left it, in freewheel */
            _mm_setcsr(usual | _MM_ROUND_DOWN);
        uint32_t before = _mm_getcsr();
        run(engine, 0, 8);
        CHECK(first && last && half_a_denormal() != 0 && ((_mm_getcsr() ^ before) & ~0x3fu) == 0); /* 0x3f: flags */
    }
    _mm_setcsr(usual);
    core_engine_free(engine);
    for (int i = 0; i < 3; i++)
        core_slot_free(slots[i]);
}
#else
static void numbers_are_as_usual_inside_and_only_there(void) {}
#endif

int main(void) {
    impossible_engines_and_lists_are_refused();
    without_a_list_the_input_passes();
    slots_follow_each_other_and_a_tap_sees_its_place();
    a_slot_may_raise_the_rate_for_those_behind_it();
    bad_input_is_silence_and_counted();
    samples_at_full_scale_are_counted_at_the_output();
    counters_follow_the_blocks();
    time_passes_at_one_stroke_only_where_nothing_would_run();
    progress_names_the_block_and_the_step();
    numbers_are_as_usual_inside_and_only_there();
}
