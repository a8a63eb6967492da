/* The bus: slots on some of its channels, the others as late as they are, taps, ends, and what stands for a slot that fails.
   Samples and factors are small whole numbers, so that every result is exact. */
#include <string.h>

#include "check.h"
#include "engine.h"
#include "threads.h"

#define BUS 6u
#define MOST 64u
#define LENGTH 4000u
#define SLOTS 4u
#define LATEST 150u

static uint64_t seed = 5;

/* A processor: a matrix of factors, `latency` frames late. */
struct matrix {
    uint32_t inputs, outputs, latency, position;
    int factors[BUS][BUS];
    float line[BUS][LATEST];
    int refuses;
    float poison;
    uint32_t resets;
};

static int matrix_process(void *self, const struct sigrack_block *block) {
    struct matrix *matrix = self;
    for (uint32_t i = 0; i < block->frames; i++) {
        float heard[BUS];
        for (uint32_t j = 0; j < matrix->inputs; j++) {
            float *late = &matrix->line[j][matrix->position];
            heard[j] = matrix->latency ? *late : block->in[j][i];
            *late = block->in[j][i];
        }
        if (matrix->latency)
            matrix->position = (matrix->position + 1) % matrix->latency;
        for (uint32_t o = 0; o < matrix->outputs; o++) {
            float sum = 0;
            for (uint32_t j = 0; j < matrix->inputs; j++)
                sum += (float)matrix->factors[o][j] * heard[j];
            block->out[o][i] = sum;
        }
    }
    CHECK(block->channels == (matrix->inputs > matrix->outputs ? matrix->inputs : matrix->outputs));
    if (matrix->poison != 0)
        block->out[matrix->outputs - 1][0] = matrix->poison;
    return matrix->refuses;
}

static void matrix_reset(void *self) { ((struct matrix *)self)->resets++; }

static struct core_slot_setup setup_of(struct matrix *matrix, const uint8_t *in, const uint8_t *out) {
    struct core_slot_setup setup = {.process = matrix_process, .reset = matrix_reset, .self = matrix, .channels = matrix->inputs,
                                    .max_frames = MOST, .latency_frames = matrix->latency, .fade_frames = 50, .active = 1,
                                    .bus = BUS, .outputs = matrix->outputs};
    memcpy(setup.in, in, matrix->inputs);
    memcpy(setup.out, out, matrix->outputs);
    return setup;
}

static struct core_slot *slot_of(struct matrix *matrix, const uint8_t *in, const uint8_t *out) {
    struct core_slot_setup setup = setup_of(matrix, in, out);
    struct core_slot *slot = core_slot_new(&setup);
    CHECK(slot);
    return slot;
}

typedef float sound[BUS][LENGTH];

static void fill(sound *to) {
    for (uint32_t c = 0; c < BUS; c++)
        for (uint32_t i = 0; i < LENGTH; i++)
            (*to)[c][i] = (float)draw(&seed, 15) - 7.0f;
}

static float late(const sound *from, uint32_t channel, uint32_t frame, uint32_t latency) {
    return frame < latency ? 0.0f : (*from)[channel][frame - latency];
}

/* What a slot makes of the bus, by definition. `aligned` 0: as if it did not delay the others. */
static void oracle(const struct core_slot *slot, const sound *from, sound *to, int active, int aligned) {
    const struct matrix *matrix = slot->setup.self;
    for (uint32_t i = 0; i < LENGTH; i++) {
        for (uint32_t c = 0; c < BUS; c++)
            (*to)[c][i] = late(from, c, i, aligned ? matrix->latency : 0);
        for (uint32_t o = 0; o < matrix->outputs; o++) {
            float sum = 0;
            for (uint32_t j = 0; j < matrix->inputs; j++)
                sum += (float)matrix->factors[o][j] * late(from, slot->setup.in[j], i, matrix->latency);
            uint32_t c = slot->setup.out[o];
            (*to)[c][i] = active ? sum : late(from, c, i, matrix->latency);
        }
    }
}

/* Run a sound through an engine in blocks of random lengths. */
static void play(struct core_engine *engine, const sound *from, sound *to, uint32_t start, uint32_t end) {
    for (uint32_t at = start, frames; at < end; at += frames) {
        const float *in[BUS];
        float *out[BUS];
        frames = draw(&seed, MOST) + 1;
        frames = frames < end - at ? frames : end - at;
        for (uint32_t c = 0; c < BUS; c++) {
            in[c] = (*from)[c] + at;
            out[c] = (*to)[c] + at;
        }
        core_engine_block(engine, in, out, frames);
    }
}

static struct core_engine *engine_with(const struct core_step *steps, uint32_t count) {
    struct core_engine *engine = core_engine_new(BUS, MOST, 1);
    struct core_run_list *list = core_run_list_new(steps, count);
    CHECK(engine && list && !core_engine_publish(engine, list, 0));
    return engine;
}

/* Some different channels, in any order. */
static void draw_channels(uint8_t *channels) {
    for (uint32_t c = 0; c < BUS; c++)
        channels[c] = (uint8_t)c;
    for (uint32_t c = 0; c < BUS; c++) {
        uint32_t other = c + draw(&seed, BUS - c);
        uint8_t kept = channels[c];
        channels[c] = channels[other];
        channels[other] = kept;
    }
}

static struct core_slot *draw_slot(struct matrix *matrix, int whole) {
    uint8_t in[BUS], out[BUS];
    *matrix = (struct matrix){.inputs = draw(&seed, BUS) + 1, .outputs = draw(&seed, BUS) + 1};
    if (draw(&seed, 3))
        matrix->latency = draw(&seed, LATEST);
    for (uint32_t o = 0; o < BUS; o++)
        for (uint32_t j = 0; j < BUS; j++)
            matrix->factors[o][j] = (int)draw(&seed, 3) - 1;
    draw_channels(in);
    draw_channels(out);
    struct core_slot_setup setup = setup_of(matrix, in, out);
    if (whole) {
        setup.channels = matrix->inputs = matrix->outputs = BUS;
        setup.bus = 0;
    }
    struct core_slot *slot = core_slot_new(&setup);
    CHECK(slot);
    if (whole) /* the oracle looks them up */
        for (uint8_t c = 0; c < BUS; c++)
            slot->setup.in[c] = slot->setup.out[c] = c;
    return slot;
}

static void random_racks_do_what_their_slots_say(void) {
    static sound in, out, wanted[2];
    uint32_t differing = 0;
    for (int trial = 0; trial < 60; trial++) {
        struct matrix matrices[SLOTS];
        struct core_step steps[SLOTS] = {{NULL, NULL, NULL}};
        fill(&in);
        for (int aligned = 0; aligned < 2; aligned++) { /* the second time is the one that counts */
            memcpy(wanted[0], in, sizeof in);
            for (uint32_t s = 0; s < SLOTS; s++) {
                if (!aligned)
                    steps[s].slot = draw_slot(&matrices[s], trial % 4 == 0 && s == 1);
                oracle(steps[s].slot, (const sound *)&wanted[0], &wanted[1], 1, aligned);
                memcpy(wanted[0], wanted[1], sizeof in);
            }
            if (!aligned) {
                struct core_engine *engine = engine_with(steps, SLOTS);
                play(engine, (const sound *)&in, &out, 0, LENGTH);
                core_engine_free(engine);
                differing += memcmp(out, wanted[0], sizeof out) != 0;
            }
        }
        CHECK(!memcmp(out, wanted[0], sizeof out));
        for (uint32_t s = 0; s < SLOTS; s++)
            core_slot_free(steps[s].slot);
    }
    CHECK(differing > 20); /* a negative control: without the delay of the others the sound is another */
}

/* Channel 4 is heard, 1 and 5 are written, 70 frames later. */
static const uint8_t heard[1] = {4}, written[2] = {1, 5};

static struct matrix spread(void) { return (struct matrix){.inputs = 1, .outputs = 2, .latency = 70, .factors = {{2}, {-3}}}; }

static void a_bypassed_slot_leaves_what_its_outputs_held(void) {
    static sound in, out, wanted[2];
    struct matrix matrix = spread();
    struct core_slot *slot = slot_of(&matrix, heard, written);
    struct core_engine *engine = engine_with(&(struct core_step){.slot = slot}, 1);
    fill(&in);
    oracle(slot, (const sound *)&in, &wanted[0], 1, 1);
    oracle(slot, (const sound *)&in, &wanted[1], 0, 1);
    play(engine, (const sound *)&in, &out, 0, 1000);
    core_slot_activate(slot, 0);
    play(engine, (const sound *)&in, &out, 1000, 2000);
    core_slot_activate(slot, 1);
    play(engine, (const sound *)&in, &out, 2000, LENGTH);
    for (uint32_t c = 0; c < BUS; c++)
        for (uint32_t i = 0; i < LENGTH; i++) {
            double wet = i < 1000 ? 1 : i < 1050 ? 1 - (i - 999) / 50.0 : i < 2000 ? 0 : i < 2050 ? (i - 1999) / 50.0 : 1;
            double value = wet * wanted[0][c][i] + (1 - wet) * wanted[1][c][i];
            CHECK(out[c][i] - value < 1e-5 && value - out[c][i] < 1e-5);
        }
    core_engine_free(engine);
    core_slot_free(slot);
}

static void a_failing_slot_leaves_what_its_outputs_held(void) {
    static const float poisons[] = {0, __builtin_nanf(""), __builtin_inff()};
    static sound in, out, wanted;
    for (int p = 0; p < 3; p++) {
        struct matrix matrix = spread();
        matrix.poison = poisons[p];
        matrix.refuses = !p;
        struct core_slot *slot = slot_of(&matrix, heard, written);
        struct core_engine *engine = engine_with(&(struct core_step){.slot = slot}, 1);
        fill(&in);
        oracle(slot, (const sound *)&in, &wanted, 0, 1);
        play(engine, (const sound *)&in, &out, 0, LENGTH);
        CHECK(!memcmp(out, wanted, sizeof out));
        uint64_t blocks = atomic_load(&slot->meters.blocks);
        CHECK(blocks && atomic_load(p ? &slot->meters.nonfinite : &slot->meters.faults) == blocks);
        CHECK(matrix.resets == (p ? blocks : 0));
        core_engine_free(engine);
        core_slot_free(slot);
    }
}

static void a_channel_that_nobody_writes_is_not_copied(void) {
    struct matrix matrix = {.inputs = 1, .outputs = 1, .factors = {{1}}};
    struct core_slot *slot = slot_of(&matrix, heard, heard);
    float samples[BUS][MOST] = {{0}}, memory[2][BUS][MOST];
    struct bus bus = {.channels = BUS};
    for (uint32_t c = 0; c < BUS; c++) {
        bus.now[c] = samples[c];
        bus.next[c] = memory[0][c];
        bus.spare[c] = memory[1][c];
    }
    for (uint32_t turn = 0; turn < 3; turn++) {
        CHECK(bus_run_slot(&bus, slot, MOST, 0) == MOST);
        for (uint32_t c = 0; c < BUS; c++)
            CHECK(bus.now[c] == (c == heard[0] ? memory[turn % 2][c] : samples[c]));
    }
    core_slot_free(slot);
}

static void a_tap_copies_its_channels_at_its_place(void) {
    static const uint8_t mapped[3] = {5, 0, 1};
    static sound in, out, wanted;
    static float heard_at[LENGTH][3], all[LENGTH][BUS];
    struct matrix matrix = spread();
    struct core_bell *bell = core_bell_new();
    struct core_tap *before = core_tap_new(3, LENGTH, LENGTH, bell), *after = core_tap_new(3, LENGTH, LENGTH, bell),
                    *whole = core_tap_new(BUS, LENGTH, LENGTH, bell);
    struct core_slot *slot = slot_of(&matrix, heard, written);
    CHECK(bell && before && after && whole);
    core_tap_map(before, mapped);
    core_tap_map(after, mapped);
    const struct core_step steps[] = {{.tap = before}, {.slot = slot}, {.tap = after}, {.tap = whole}};
    struct core_engine *engine = engine_with(steps, 4);
    fill(&in);
    oracle(slot, (const sound *)&in, &wanted, 1, 1);
    play(engine, (const sound *)&in, &out, 0, LENGTH);
    core_tap_read_interleaved(before, heard_at[0], LENGTH);
    for (uint32_t i = 0; i < LENGTH; i++)
        for (uint32_t c = 0; c < 3; c++)
            CHECK(heard_at[i][c] == in[mapped[c]][i]);
    core_tap_read_interleaved(after, heard_at[0], LENGTH);
    core_tap_read_interleaved(whole, all[0], LENGTH);
    for (uint32_t i = 0; i < LENGTH; i++) {
        for (uint32_t c = 0; c < 3; c++)
            CHECK(heard_at[i][c] == wanted[mapped[c]][i]);
        for (uint32_t c = 0; c < BUS; c++)
            CHECK(all[i][c] == wanted[c][i]);
    }
    core_engine_free(engine);
    core_slot_free(slot);
    core_tap_free(before);
    core_tap_free(after);
    core_tap_free(whole);
    core_bell_free(bell);
}

static void what_comes_in_and_what_goes_out_may_be_fewer(void) {
    static const uint8_t out_map[3] = {5, 0, 2};
    float in[2][MOST], out[3][MOST];
    struct core_engine *engine = core_engine_new(BUS, MOST, 1);
    struct matrix matrix = {.inputs = 1, .outputs = 1, .factors = {{2}}};
    struct core_slot *slot = slot_of(&matrix, (const uint8_t[]){1}, (const uint8_t[]){5});
    CHECK(engine && core_engine_set_ends(engine, 2, 3, out_map));
    CHECK(!core_engine_publish(engine, core_run_list_new(&(struct core_step){.slot = slot}, 1), 0));
    for (int block = 0; block < 3; block++) {
        for (uint32_t i = 0; i < MOST; i++) {
            in[0][i] = (float)draw(&seed, 9);
            in[1][i] = (float)draw(&seed, 9);
        }
        core_engine_block(engine, (const float *[]){in[0], in[1]}, (float *[]){out[0], out[1], out[2]}, MOST);
        for (uint32_t i = 0; i < MOST; i++)
            CHECK(out[0][i] == 2 * in[1][i] && out[1][i] == in[0][i] && out[2][i] == 0);
    }
    in[1][7] = __builtin_nanf("");
    core_engine_block(engine, (const float *[]){in[0], in[1]}, (float *[]){out[0], out[1], out[2]}, MOST);
    CHECK(out[0][7] == 0 && out[0][8] == 2 * in[1][8] && out[1][7] == in[0][7] && atomic_load(&engine->bad_input) == 1);
    core_engine_free(engine);
    core_slot_free(slot);
}

static void places_that_are_none_are_refused(void) {
    struct matrix matrix = spread();
    struct core_slot_setup good = setup_of(&matrix, heard, written), bad;
    bad = good, bad.in[0] = BUS;
    CHECK(!core_slot_new(&bad));
    bad = good, bad.out[1] = BUS;
    CHECK(!core_slot_new(&bad));
    bad = good, bad.out[1] = bad.out[0];
    CHECK(!core_slot_new(&bad));
    bad = good, bad.outputs = 0;
    CHECK(!core_slot_new(&bad));
    bad = good, bad.channels = 0;
    CHECK(!core_slot_new(&bad));
    bad = good, bad.ratio = 2;
    CHECK(!core_slot_new(&bad));
    bad = good, bad.bus = SIGRACK_MAX_CHANNELS + 1;
    CHECK(!core_slot_new(&bad));
    struct core_engine *engine = core_engine_new(2, MOST, 1);
    CHECK(!core_engine_set_ends(engine, 3, 1, (const uint8_t[]){0}) && !core_engine_set_ends(engine, 0, 1, (const uint8_t[]){0}));
    CHECK(!core_engine_set_ends(engine, 2, 3, (const uint8_t[]){0, 1, 0}) && !core_engine_set_ends(engine, 2, 0, NULL));
    CHECK(!core_engine_set_ends(engine, 2, 1, (const uint8_t[]){2}) && core_engine_set_ends(engine, 1, 1, (const uint8_t[]){1}));
    core_engine_free(engine);
}

int main(void) {
    random_racks_do_what_their_slots_say();
    a_bypassed_slot_leaves_what_its_outputs_held();
    a_failing_slot_leaves_what_its_outputs_held();
    a_channel_that_nobody_writes_is_not_copied();
    a_tap_copies_its_channels_at_its_place();
    what_comes_in_and_what_goes_out_may_be_fewer();
    places_that_are_none_are_refused();
}
