/* The recursion: any number of channels, sections and stages, cut into any blocks, against long double, sample after sample. */
#include "biquads.h"
#include "check.h"
#include "threads.h"

#include <math.h>
#include <string.h>

#define MOST_CHANNELS 12u
#define MOST_SECTIONS 21u
#define FRAMES 3000u
#define STAGES 3u

static float input[MOST_CHANNELS][FRAMES], output[MOST_CHANNELS][FRAMES];
static long double wanted[MOST_CHANNELS][FRAMES];

/* What one test runs: stages of any shape. */
struct scene {
    uint32_t channels, outputs, count;
    struct core_biquads_stage stage[STAGES];
    double mix[STAGES][MOST_CHANNELS * MOST_CHANNELS];
    uint32_t delays[STAGES][MOST_CHANNELS], sections[STAGES][MOST_CHANNELS];
    double coefficients[STAGES][MOST_CHANNELS * MOST_SECTIONS][5];
};

static double between(uint64_t *random, double low, double high) {
    return low + (high - low) * (double)draw(random, 1u << 24) / (double)(1u << 24);
}

/* Poles at `radius` and up to the angle `angle`, zeros not far from them. */
static void draw_section(uint64_t *random, double *b, double radius, double angle) {
    double turn = between(random, 0, angle);
    b[0] = between(random, 0.5, 1);
    b[1] = -2 * b[0] * 0.99 * radius * cos(turn * 1.1);
    b[2] = b[0] * between(random, 0.9, 1) * radius * radius;
    b[3] = -2 * radius * cos(turn);
    b[4] = radius * radius;
}

static void draw_scene(struct scene *scene, uint64_t *random, uint32_t channels, uint32_t count, uint32_t sections, double radius) {
    uint32_t inputs = scene->channels = channels;
    scene->outputs = draw(random, 2) ? channels : draw(random, MOST_CHANNELS) + 1;
    scene->count = count;
    for (uint32_t s = 0; s < count; s++) {
        uint32_t outputs = s + 1 < count ? draw(random, MOST_CHANNELS) + 1 : scene->outputs, at = 0;
        for (uint32_t i = 0; i < inputs * outputs; i++)
            scene->mix[s][i] = draw(random, 3) ? 0 : between(random, -1, 1);
        for (uint32_t o = 0; o < outputs; o++) {
            scene->mix[s][o * inputs + o % inputs] = 1;
            scene->delays[s][o] = draw(random, 3) ? 0 : draw(random, 300);
            scene->sections[s][o] = draw(random, sections + 1);
            for (uint32_t n = 0; n < scene->sections[s][o]; n++)
                draw_section(random, scene->coefficients[s][at++], radius, 3);
        }
        scene->stage[s] = (struct core_biquads_stage){inputs, outputs, scene->mix[s], scene->delays[s], scene->sections[s],
                                                      scene->coefficients[s][0]};
        inputs = outputs;
    }
}

static void section(const double *b, long double *samples, uint32_t from) {
    long double x1 = 0, x2 = 0, y1 = 0, y2 = 0;
    for (uint32_t n = from; n < FRAMES; n++) {
        long double x = samples[n], y = b[0] * x + b[1] * x1 + b[2] * x2 - b[3] * y1 - b[4] * y2;
        x2 = x1, x1 = x, y2 = y1, y1 = y;
        samples[n] = y;
    }
}

/* What comes out from frame `from` on, when all before it was forgotten: by definition, in direct form I. */
static void reference(const struct scene *scene, uint32_t from) {
    static long double x[MOST_CHANNELS][FRAMES], y[MOST_CHANNELS][FRAMES];
    for (uint32_t c = 0; c < scene->channels; c++)
        for (uint32_t n = 0; n < FRAMES; n++)
            x[c][n] = n < from ? 0 : input[c][n];
    for (uint32_t s = 0; s < scene->count; s++) {
        const struct core_biquads_stage *stage = &scene->stage[s];
        const double *b = stage->coefficients;
        for (uint32_t o = 0; o < stage->outputs; o++) {
            uint32_t late = stage->delay_frames[o];
            for (uint32_t n = 0; n < FRAMES; n++) {
                y[o][n] = 0;
                for (uint32_t i = 0; n >= late && i < stage->inputs; i++)
                    y[o][n] += stage->mix[o * stage->inputs + i] * x[i][n - late];
            }
            for (uint32_t k = 0; k < stage->sections[o]; k++, b += 5)
                section(b, y[o], from);
        }
        memcpy(x, y, sizeof x);
    }
    memcpy(wanted, x, sizeof wanted);
}

static struct core_filter *make(const struct scene *scene) {
    struct core_filter *filter = core_biquads_new(&(struct core_biquads_spec){scene->channels, scene->outputs, scene->count, scene->stage});
    CHECK(filter);
    return filter;
}

static void process(struct core_filter *filter, uint32_t at, uint32_t frames) {
    const float *in[MOST_CHANNELS];
    float *out[MOST_CHANNELS];
    for (uint32_t c = 0; c < MOST_CHANNELS; c++)
        in[c] = input[c] + at, out[c] = output[c] + at;
    struct sigrack_block block = {sizeof block, frames, at, in, out, MOST_CHANNELS, 0, NULL};
    CHECK(core_filter_process(filter, &block) == 0);
}

/* Process from frame `from` on in blocks of up to `most` frames. */
static void stream(struct core_filter *filter, uint64_t *random, uint32_t from, uint32_t most) {
    for (uint32_t frames; from < FRAMES; from += frames) {
        frames = draw(random, most + 1);
        frames = frames < FRAMES - from ? frames : FRAMES - from;
        process(filter, from, frames);
    }
}

static double error_db(const struct scene *scene, uint32_t from) {
    long double error = 0, peak = 1e-30L;
    for (uint32_t c = 0; c < scene->outputs; c++)
        for (uint32_t n = from; n < FRAMES; n++) {
            error = fmaxl(error, fabsl(output[c][n] - wanted[c][n]));
            peak = fmaxl(peak, fabsl(wanted[c][n]));
        }
    return (double)(20 * log10l(error / peak));
}

static void make_noise(uint64_t *random) {
    for (uint32_t c = 0; c < MOST_CHANNELS; c++)
        for (uint32_t n = 0; n < FRAMES; n++)
            input[c][n] = (float)between(random, -1, 1);
}

static void any_shape_in_any_blocks_is_the_definition(void) {
    static const uint32_t blocks[] = {1, 3, 64, 200, 1000};
    uint64_t random = 3;
    make_noise(&random);
    for (uint32_t channels = 1; channels <= MOST_CHANNELS; channels++)
        for (uint32_t b = 0; b < 5; b++) {
            struct scene scene;
            draw_scene(&scene, &random, channels, draw(&random, STAGES) + 1, draw(&random, MOST_SECTIONS), 0.95);
            struct core_filter *filter = make(&scene);
            stream(filter, &random, 0, blocks[b]);
            reference(&scene, 0);
            CHECK(error_db(&scene, 0) < -128);
            core_filter_free(filter);
        }
}

/* 20 Hz at 768 kHz, Q 10; and how far a state of single precision is off, in the same form. */
static void low_frequencies_keep_their_digits(void) {
    uint64_t random = 5;
    struct scene scene;
    make_noise(&random);
    draw_scene(&scene, &random, 2, 1, 1, 0.5);
    scene.outputs = scene.stage[0].outputs = 2;
    memcpy(scene.mix[0], (double[]){1, 0, 0.3, 1}, 4 * sizeof(double));
    double w = 2 * acos(-1) * 20 / 768000, alpha = sin(w) / 20, a = 2, b[5] = {
        (1 + alpha * a) / (1 + alpha / a), -2 * cos(w) / (1 + alpha / a), (1 - alpha * a) / (1 + alpha / a),
        -2 * cos(w) / (1 + alpha / a), (1 - alpha / a) / (1 + alpha / a)};
    for (uint32_t c = 0; c < 2; c++) {
        scene.sections[0][c] = 1;
        scene.delays[0][c] = 0;
        memcpy(scene.coefficients[0][c], b, sizeof b);
    }
    struct core_filter *filter = make(&scene);
    stream(filter, &random, 0, 500);
    reference(&scene, 0);
    CHECK(error_db(&scene, 0) < -140);
    core_filter_free(filter);

    float s1[2] = {0}, s2[2] = {0};
    for (uint32_t n = 0; n < FRAMES; n++)
        for (uint32_t o = 0; o < 2; o++) {
            float x = 0;
            for (uint32_t i = 0; i < 2; i++)
                x += (float)scene.mix[0][o * 2 + i] * input[i][n];
            float y = (float)b[0] * x + s1[o];
            s1[o] = (float)b[1] * x - (float)b[3] * y + s2[o];
            s2[o] = (float)b[2] * x - (float)b[4] * y;
            output[o][n] = y;
        }
    CHECK(error_db(&scene, 0) > -110);
}

static void after_a_reset_nothing_is_remembered(void) {
    uint64_t random = 7;
    make_noise(&random);
    for (uint32_t trial = 0; trial < 20; trial++) {
        struct scene scene;
        draw_scene(&scene, &random, draw(&random, MOST_CHANNELS) + 1, draw(&random, STAGES) + 1, 6, 0.99);
        struct core_filter *filter = make(&scene);
        uint32_t at = draw(&random, 1000);
        process(filter, 0, at);
        core_filter_reset(filter);
        stream(filter, &random, at, 300);
        reference(&scene, at);
        CHECK(error_db(&scene, at) < -128);
        reference(&scene, 0);
        CHECK(!at || error_db(&scene, at) > -100); /* it would have been heard */
        core_filter_free(filter);
    }
}

static void what_was_not_a_number_is_gone_after_a_reset(void) {
    uint64_t random = 8;
    struct scene scene;
    make_noise(&random);
    draw_scene(&scene, &random, 2, 2, 3, 0.9);
    struct core_filter *filter = make(&scene);
    input[0][10] = NAN;
    process(filter, 0, 500);
    core_filter_reset(filter);
    stream(filter, &random, 500, 300);
    reference(&scene, 500);
    CHECK(error_db(&scene, 500) < -128);
    core_filter_free(filter);
}

static void priming_is_processing_unheard(void) {
    uint64_t random = 9;
    make_noise(&random);
    for (uint32_t trial = 0; trial < 10; trial++) {
        struct scene scene;
        draw_scene(&scene, &random, 3, 2, 5, 0.99);
        struct core_filter *filter = make(&scene);
        const float *in[] = {input[0], input[1], input[2]};
        uint32_t at = draw(&random, 1000);
        core_filter_prime(filter, in, at);
        core_filter_catch_up(filter);
        stream(filter, &random, at, 300);
        reference(&scene, 0);
        CHECK(error_db(&scene, at) < -128);
        core_filter_free(filter);
    }
}

static void what_cannot_be_is_refused(void) {
    double mix[4] = {1, 0, 0, 1}, sections[5] = {1, 0, 0, 0, 0};
    uint32_t none[2] = {0, 0}, one[2] = {1, 0}, late[2] = {BIQUADS_MAX_DELAY + 1, 0};
    struct core_biquads_stage right = {2, 2, mix, none, one, sections}, wrong[] = {
        {1, 2, mix, none, one, sections}, {2, 1, mix, none, one, sections}, {2, 0, mix, none, one, sections},
        {2, 2, mix, late, one, sections}, {2, BIQUADS_MAX_OUTPUTS + 1, mix, none, one, sections}};
    struct core_biquads_stage pair[2] = {right, right};
    struct core_filter *filter = core_biquads_new(&(struct core_biquads_spec){2, 2, 2, pair});
    CHECK(filter && core_filter_bytes(filter) > 1000);
    float *out[1] = {output[0]};
    const float *in[1] = {input[0]};
    struct sigrack_block narrow = {sizeof narrow, 1, 0, in, out, 1, 0, NULL};
    CHECK(core_filter_process(filter, &narrow) == 1);
    core_filter_free(filter);
    core_filter_free(NULL);
    CHECK(!core_biquads_new(&(struct core_biquads_spec){0, 2, 1, &right}));
    CHECK(!core_biquads_new(&(struct core_biquads_spec){SIGRACK_MAX_CHANNELS + 1, 2, 1, &right}));
    CHECK(!core_biquads_new(&(struct core_biquads_spec){2, 2, 0, &right}));
    CHECK(!core_biquads_new(&(struct core_biquads_spec){2, 1, 1, &right}));
    for (uint32_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        pair[1] = wrong[i];
        CHECK(!core_biquads_new(&(struct core_biquads_spec){2, 2, 2, pair}));
    }
}

int main(void) {
    any_shape_in_any_blocks_is_the_definition();
    low_frequencies_keep_their_digits();
    after_a_reset_nothing_is_remembered();
    what_was_not_a_number_is_gone_after_a_reset();
    priming_is_processing_unheard();
    what_cannot_be_is_refused();
}
