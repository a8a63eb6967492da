/* The convolver against the definition of convolution, in double precision. Runs at the level that was chosen at load:
   SIGRACK_LEVEL=2, 3, 4 in turn. */
#include "check.h"
#include "fir.h"
#include "threads.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define LIMIT_DB -120.0
#define END 0

/* A filter matrix, an input that fits it, and the output that the convolver made of it. */
struct scene {
    uint32_t inputs, outputs, count, partition, frames;
    float *taps; /* [outputs][inputs][count] */
    float *in;   /* [inputs][frames] */
    float *out;  /* [outputs][frames * phases] */
    uint32_t phases, growth; /* growth: of the partition from stage to stage; 0: one stage */
};

static const uint32_t mixed[] = {1, 63, 64, 255, 256, 257, 1000, 7, 512, 513, 128, 2, 16, 4096, 3, 65536, END};
static const uint32_t whole[] = {256, END};
static const uint32_t small[] = {64, END};
static const uint32_t odd[] = {37, 480, 1, 1, 1024, END};
static const uint32_t huge[] = {65536, END};
static const uint32_t *const sequences[] = {mixed, whole, small, odd, huge};
#define SEQUENCES (sizeof sequences / sizeof *sequences)

/* A counter through a mixer, evenly in -1 to 1; a plain congruential generator repeats itself at distances of powers of two. */
static float noise(void) {
    static uint32_t counter;
    uint32_t bits = counter++ * 0x9e3779b9u;
    bits = (bits ^ bits >> 16) * 0x85ebca6bu;
    bits = (bits ^ bits >> 13) * 0xc2b2ae35u;
    bits ^= bits >> 16;
    return (float)(int32_t)bits / 2147483648.0f;
}

static float *noises(size_t count) {
    float *memory = malloc(count * sizeof(float));
    CHECK(memory);
    for (size_t i = 0; i < count; i++)
        memory[i] = noise();
    return memory;
}

static struct scene interpolation_new(uint32_t inputs, uint32_t outputs, uint32_t phases, uint32_t count, uint32_t partition,
                                      uint32_t growth, uint32_t frames) {
    struct scene scene = {inputs, outputs, count, partition, frames, NULL, NULL, NULL, phases, growth};
    scene.taps = noises((size_t)inputs * outputs * count);
    scene.in = noises((size_t)inputs * frames);
    scene.out = noises((size_t)outputs * frames * phases);
    return scene;
}

static struct scene scene_new(uint32_t inputs, uint32_t outputs, uint32_t count, uint32_t partition, uint32_t frames) {
    return interpolation_new(inputs, outputs, 1, count, partition, 0, frames);
}

static void scene_free(struct scene *scene) {
    free(scene->taps);
    free(scene->in);
    free(scene->out);
}

static float *path(const struct scene *scene, uint32_t output, uint32_t input) {
    return scene->taps + ((size_t)output * scene->inputs + input) * scene->count;
}

static void zero_path(const struct scene *scene, uint32_t output, uint32_t input) {
    memset(path(scene, output, input), 0, scene->count * sizeof(float));
}

static struct core_filter *make(const struct scene *scene) {
    struct core_fir_spec spec = {scene->inputs, scene->outputs, scene->phases, scene->count, scene->taps, 0, {0}};
    for (uint32_t s = 0, partition = scene->partition; s < FIR_MAX_STAGES && partition && partition <= 65536; s++) {
        spec.partitions[s] = partition;
        partition *= scene->growth;
    }
    struct core_filter *fir = core_fir_new(&spec);
    CHECK(fir);
    return fir;
}

static int process(struct core_filter *fir, const struct scene *scene, uint32_t at, uint32_t frames) {
    const float *in[FIR_MAX_CHANNELS] = {NULL};
    float *out[FIR_MAX_CHANNELS] = {NULL};
    for (uint32_t i = 0; i < scene->inputs; i++)
        in[i] = scene->in + (size_t)i * scene->frames + at;
    for (uint32_t o = 0; o < scene->outputs; o++)
        out[o] = scene->out + ((size_t)o * scene->frames + at) * scene->phases;
    struct sigrack_block block = {.size = sizeof block, .frames = frames, .frame = at, .in = in, .out = out};
    block.channels = scene->inputs > scene->outputs ? scene->inputs : scene->outputs;
    return core_filter_process(fir, &block);
}

/* Play the whole input in blocks of `sizes`, over and over. */
static void stream(struct core_filter *fir, const struct scene *scene, const uint32_t *sizes) {
    uint32_t frames;
    for (uint32_t at = 0, step = 0; at < scene->frames; at += frames) {
        frames = sizes[step] < scene->frames - at ? sizes[step] : scene->frames - at;
        CHECK(process(fir, scene, at, frames) == 0);
        step = sizes[step + 1] == END ? 0 : step + 1;
    }
}

static void run(const struct scene *scene, const uint32_t *sizes) {
    struct core_filter *fir = make(scene);
    stream(fir, scene, sizes);
    core_filter_free(fir);
}

/* The definition: the input with zeros between its frames. `frame` is the output's; `shift` delays the taps: 0 is right. */
static double reference(const struct scene *scene, uint32_t output, uint32_t frame, uint32_t shift) {
    double sum = 0;
    for (uint32_t i = 0; i < scene->inputs; i++) {
        const float *taps = path(scene, output, i), *in = scene->in + (size_t)i * scene->frames;
        for (uint32_t k = 0; k < scene->count && k + shift <= frame; k++)
            if ((frame - k - shift) % scene->phases == 0)
                sum += (double)taps[k] * in[(frame - k - shift) / scene->phases];
    }
    return sum;
}

static double decibel(double error, double peak) { return 20 * log10((error + 1e-30) / (peak + 1e-30)); }

/* Peak error over peak output; each `stride`-th frame is compared. */
static double error_db(const struct scene *scene, uint32_t stride, uint32_t shift) {
    double error = 0, peak = 0;
    uint32_t frames = scene->frames * scene->phases;
    for (uint32_t o = 0; o < scene->outputs; o++) {
        for (uint32_t n = 0; n < frames; n += stride) {
            double wanted = reference(scene, o, n, shift), got = scene->out[(size_t)o * frames + n];
            CHECK(isfinite(got));
            error = fmax(error, fabs(got - wanted));
            peak = fmax(peak, fabs(wanted));
        }
    }
    return decibel(error, peak);
}

static void impulse_comes_back_as_the_taps(void) {
    const uint32_t taps_at[] = {0, 1, 255, 256, 257, 511, 512, 767, 768, 1279};
    const uint32_t frames_at[] = {0, 1, 254, 255, 256, 257, 511, 512, 513, 1023};
    for (size_t s = 0; s < SEQUENCES; s++) {
        for (size_t t = SANITIZED ? s : 0; t < 100; t += SANITIZED ? SEQUENCES : 1) {
            uint32_t tap = taps_at[t / 10], frame = frames_at[t % 10];
            struct scene scene = scene_new(1, 1, 1280, 256, 2400);
            zero_path(&scene, 0, 0);
            scene.taps[tap] = 0.5f;
            memset(scene.in, 0, scene.frames * sizeof(float));
            scene.in[frame] = 1;
            run(&scene, sequences[s]);
            for (uint32_t n = 0; n < scene.frames; n++)
                CHECK(fabsf(scene.out[n] - (n == frame + tap ? 0.5f : 0)) < 1e-7f);
            scene_free(&scene);
        }
    }
}

static void any_length_in_any_blocks_is_exact(void) {
    const uint32_t counts[] = {1, 2, 63, 255, 256, 257, 512, 513, 1279, 1281, 3000};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (size_t s = 0; s < SEQUENCES; s++) {
            struct scene scene = scene_new(1, 1, counts[c], 256, 5000);
            run(&scene, sequences[s]);
            CHECK(error_db(&scene, 11, 0) < LIMIT_DB);
            scene_free(&scene);
        }
    }
}

/* The largest partitions take whole segments only: their direct part would make this test long, and is the same code. */
static void any_partition_is_exact(void) {
    for (uint32_t partition = 256; partition <= 65536; partition *= 4) {
        for (size_t s = partition > 1024 ? SEQUENCES - 1 : 0; s < SEQUENCES; s++) {
            struct scene scene = scene_new(2, 1, 2 * partition + 77, partition, 3 * partition + 123);
            run(&scene, sequences[s]);
            CHECK(error_db(&scene, scene.frames / 64, 0) < LIMIT_DB);
            scene_free(&scene);
        }
    }
}

static void random_blocks_are_exact(void) {
    for (int turn = 0; turn < 20; turn++) {
        uint32_t sizes[65] = {0};
        for (int i = 0; i < 64; i++)
            sizes[i] = 1 + (uint32_t)(fabsf(noise()) * (i % 3 ? 300 : 2000));
        struct scene scene = scene_new(2, 2, 1 + (uint32_t)(fabsf(noise()) * 4000), 0, 6000);
        run(&scene, sizes);
        CHECK(error_db(&scene, 41, 0) < LIMIT_DB);
        scene_free(&scene);
    }
}

static void stages_are_exact(void) {
    for (uint32_t growth = 2; growth <= 16; growth *= 2) {
        for (size_t s = 0; s < SEQUENCES; s++) {
            struct scene scene = interpolation_new(2, 2, 1, 9000 + 977 * growth, 256, growth, 40000);
            zero_path(&scene, 1, 0);
            run(&scene, sequences[s]);
            CHECK(error_db(&scene, 997, 0) < LIMIT_DB);
            CHECK(error_db(&scene, 1973, 1) > -20);
            scene_free(&scene);
        }
    }
}

/* The place of an impulse at and around the seams of three stages: 256, 1024, 4096. */
static void stages_meet_without_a_seam(void) {
    const uint32_t taps_at[] = {0, 255, 256, 2047, 2048, 3071, 3072, 8191, 8192, 12287, 12288, 12799};
    const uint32_t frames_at[] = {0, 1, 255, 1023, 1024, 4095, 4096, 4097, 12287, 12288, 16383, 16384};
    for (size_t s = 0; s < SEQUENCES; s++) {
        for (size_t t = s; t < 144; t += s || SANITIZED ? SEQUENCES : 1) { /* all in mixed blocks, each once in others */
            uint32_t tap = taps_at[t / 12], frame = frames_at[t % 12];
            struct scene scene = interpolation_new(1, 1, 1, 12800, 256, 4, 30000);
            zero_path(&scene, 0, 0);
            scene.taps[tap] = 0.5f;
            memset(scene.in, 0, scene.frames * sizeof(float));
            scene.in[frame] = 1;
            run(&scene, sequences[s]);
            for (uint32_t n = 0; n < scene.frames; n++)
                CHECK(fabsf(scene.out[n] - (n == frame + tap ? 0.5f : 0)) < 1e-6f);
            scene_free(&scene);
        }
    }
}

static void interpolation_is_exact(void) {
    const uint32_t phases[] = {1, 2, 3, 4, 7, 8, 16, 24, 32};
    for (size_t p = 0; p < sizeof phases / sizeof *phases; p++) {
        for (size_t s = 0; s < SEQUENCES; s++) {
            struct scene scene = interpolation_new(2, 2, phases[p], 5003 * phases[p] + 1, 256, 4, 9000);
            memcpy(path(&scene, 1, 1), path(&scene, 0, 0), scene.count * sizeof(float)); /* one filter for both */
            if (s % 2) {
                zero_path(&scene, 0, 1);
                zero_path(&scene, 1, 0);
            }
            run(&scene, sequences[s]);
            CHECK(error_db(&scene, 1 + scene.frames * phases[p] / 97, 0) < LIMIT_DB);
            CHECK(error_db(&scene, 1 + scene.frames * phases[p] / 97, 1) > -20);
            scene_free(&scene);
        }
    }
}

static void equal_paths_share_memory(void) {
    struct scene scene = interpolation_new(2, 2, 16, 16 * 2000, 256, 4, 100);
    zero_path(&scene, 0, 1);
    zero_path(&scene, 1, 0);
    struct core_filter *different = make(&scene);
    memcpy(path(&scene, 1, 1), path(&scene, 0, 0), scene.count * sizeof(float));
    struct core_filter *equal = make(&scene);
    CHECK(core_filter_bytes(equal) + 2 * scene.count * sizeof(float) <= core_filter_bytes(different));
    core_filter_free(different);
    core_filter_free(equal);
    scene_free(&scene);
}

/* Both ears alike, as in a crossfeed: two filters do the work of four. */
static void mirrored_paths_are_exact_and_half_as_many(void) {
    for (uint32_t phases = 1; phases <= 16; phases *= 4) {
        for (size_t s = 0; s < SEQUENCES; s++) {
            struct scene scene = interpolation_new(2, 2, phases, 3000 * phases, 256, 4, 8000);
            struct core_filter *four = make(&scene);
            memcpy(path(&scene, 1, 1), path(&scene, 0, 0), scene.count * sizeof(float));
            memcpy(path(&scene, 1, 0), path(&scene, 0, 1), scene.count * sizeof(float));
            struct core_filter *two = make(&scene);
            CHECK(core_filter_bytes(two) + 2 * 2 * scene.count * sizeof(float) <= core_filter_bytes(four));
            stream(two, &scene, sequences[s]);
            CHECK(error_db(&scene, 1 + scene.frames * phases / 97, 0) < LIMIT_DB);
            CHECK(error_db(&scene, 1 + scene.frames * phases / 97, 1) > -20);
            core_filter_free(four);
            core_filter_free(two);
            scene_free(&scene);
        }
    }
    struct scene scene = scene_new(2, 2, 2000, 256, 6000); /* equal sums: the difference is silent */
    memcpy(path(&scene, 0, 1), path(&scene, 0, 0), scene.count * sizeof(float));
    memcpy(path(&scene, 1, 0), path(&scene, 0, 0), scene.count * sizeof(float));
    memcpy(path(&scene, 1, 1), path(&scene, 0, 0), scene.count * sizeof(float));
    run(&scene, mixed);
    CHECK(error_db(&scene, 7, 0) < LIMIT_DB);
    scene_free(&scene);
}

static void the_plan_covers_all_taps(void) {
    const uint32_t counts[] = {1, 1000, 65536, 640000, 2097152, FIR_MAX_TAPS}, blocks[] = {0, 64, 441, 512, 4096, 65536};
    float *taps = calloc(FIR_MAX_TAPS, sizeof(float));
    taps[0] = 1;
    for (size_t t = 0; t < 36; t++) {
        struct core_fir_spec spec = {1, 1, t % 2 ? 16 : 1, counts[t / 6], taps, blocks[t % 6], {0}};
        struct core_filter *fir = core_fir_new(&spec);
        struct core_fir_stage stage[FIR_MAX_STAGES];
        CHECK(fir);
        uint32_t stages = core_fir_stages(fir, stage), count = (spec.count + spec.phases - 1) / spec.phases;
        for (uint32_t s = 0; s < stages; s++) {
            CHECK(stage[s].from == (s ? 2 * stage[s].partition : 0));
            uint32_t end = stage[s].from + stage[s].partition * stage[s].partitions;
            CHECK(s + 1 < stages ? end == stage[s + 1].from : end >= count && end - count < stage[s].partition);
            CHECK(stage[s].ns > 0);
        }
        core_filter_free(fir);
    }
    free(taps);
}

/* What was primed goes on as if it had been processed, wherever the change falls. */
static void priming_equals_processing(void) {
    const uint32_t changes[] = {0, 1, 255, 256, 300, 1024, 4095, 4096, 5000, 8192, 9001, 12288, 20000};
    const uint32_t befores[] = {0, 2500, 5120};
    for (uint32_t phases = 1; phases <= 4; phases *= 4) {
        for (size_t c = 0; c < sizeof changes / sizeof *changes; c++) {
            for (size_t b = 0; b < sizeof befores / sizeof *befores; b++) {
                uint32_t before = befores[b], size = before % 256 ? 333 : 256; /* of blocks: pieces of segments, or whole ones */
                struct scene scene = interpolation_new(2, 2, phases, 13000 * phases, 256, 4, 30000);
                struct core_filter *fir = make(&scene);
                const float *in[2] = {scene.in + before, scene.in + scene.frames + before};
                CHECK(process(fir, &scene, 0, before) == 0);
                core_filter_prime(fir, in, changes[c] / 2);
                in[0] += changes[c] / 2;
                in[1] += changes[c] / 2;
                core_filter_prime(fir, in, changes[c] - changes[c] / 2);
                core_filter_catch_up(fir);
                uint32_t frames;
                for (uint32_t at = before + changes[c]; at < scene.frames; at += frames) {
                    frames = scene.frames - at < size ? scene.frames - at : size;
                    CHECK(process(fir, &scene, at, frames) == 0);
                }
                double error = 0, peak = 0;
                for (uint32_t n = (before + changes[c]) * phases; n < scene.frames * phases; n += 973) {
                    double wanted = reference(&scene, 1, n, 0);
                    error = fmax(error, fabs(scene.out[(size_t)scene.frames * phases + n] - wanted));
                    peak = fmax(peak, fabs(wanted));
                }
                CHECK(decibel(error, peak) < LIMIT_DB);
                core_filter_free(fir);
                scene_free(&scene);
            }
        }
    }
}

static void zero_paths_stay_silent_and_cost_nothing(void) {
    struct scene scene = scene_new(2, 2, 2000, 256, 6000);
    struct core_filter *full = make(&scene);
    zero_path(&scene, 0, 1);
    zero_path(&scene, 1, 0);
    struct core_filter *straight = make(&scene);
    CHECK(core_filter_bytes(straight) + 2 * 2000 * 2 * sizeof(float) <= core_filter_bytes(full));
    stream(straight, &scene, mixed);
    CHECK(error_db(&scene, 7, 0) < LIMIT_DB);

    zero_path(&scene, 1, 1);
    run(&scene, mixed);
    CHECK(error_db(&scene, 7, 0) < LIMIT_DB);
    for (uint32_t n = 0; n < scene.frames; n++)
        CHECK(scene.out[scene.frames + n] == 0);

    zero_path(&scene, 0, 0);
    run(&scene, whole);
    for (uint32_t n = 0; n < 2 * scene.frames; n++)
        CHECK(scene.out[n] == 0);
    core_filter_free(full);
    core_filter_free(straight);
    scene_free(&scene);
}

static void matrices_are_exact(void) {
    const uint32_t shapes[][2] = {{8, 8}, {1, 8}, {8, 1}, {2, 2}, {3, 5}};
    for (size_t s = 0; s < 5; s++) {
        struct scene scene = scene_new(shapes[s][0], shapes[s][1], 1500, 256, 5000);
        zero_path(&scene, 0, 0);
        run(&scene, sequences[s]);
        CHECK(error_db(&scene, 61, 0) < LIMIT_DB);
        scene_free(&scene);
    }
}

static void reset_equals_fresh(void) {
    for (size_t s = 0; s < SEQUENCES; s++) {
        struct scene scene = interpolation_new(2, 2, 1 + (uint32_t)s, 7000, 256, 2, 4321);
        size_t count = 2 * (size_t)scene.frames * scene.phases, size = count * sizeof(float);
        run(&scene, sequences[s]);
        float *fresh = noises(count);
        memcpy(fresh, scene.out, size);

        struct core_filter *fir = make(&scene);
        stream(fir, &scene, odd);
        core_filter_reset(fir);
        stream(fir, &scene, sequences[s]);
        CHECK(memcmp(fresh, scene.out, size) == 0);
        core_filter_free(fir);
        free(fresh);
        scene_free(&scene);
    }
}

static void block_sizes_do_not_change_the_result(void) {
    struct scene scene = scene_new(2, 2, 16384, 0, 30000);
    size_t count = 2 * (size_t)scene.frames;
    run(&scene, mixed);
    float *first = noises(count);
    memcpy(first, scene.out, count * sizeof(float));
    for (size_t s = 1; s < SEQUENCES; s++) {
        run(&scene, sequences[s]);
        double error = 0, peak = 0;
        for (size_t n = 0; n < count; n++) {
            error = fmax(error, fabs((double)first[n] - scene.out[n]));
            peak = fmax(peak, fabs((double)first[n]));
        }
        CHECK(decibel(error, peak) < LIMIT_DB);
    }
    free(first);
    scene_free(&scene);
}

static void long_filter_is_exact(void) {
    struct scene scene = scene_new(2, 2, 16384, 0, 40000);
    double worst = -999;
    for (size_t s = 0; s < SEQUENCES; s++) {
        run(&scene, sequences[s]);
        worst = fmax(worst, error_db(&scene, 97, 0));
    }
    printf("fir: 16384 taps, 2x2: peak error %.1f dB\n", worst);
    CHECK(worst < LIMIT_DB);
    scene_free(&scene);
}

/* A test that cannot fail shows nothing: one tap of delay in the reference, or one changed tap, must be far above the limit. */
static void wrong_reference_is_detected(void) {
    struct scene scene = scene_new(2, 2, 1500, 256, 5000);
    run(&scene, mixed);
    CHECK(error_db(&scene, 7, 0) < LIMIT_DB);
    CHECK(error_db(&scene, 7, 1) > -20);
    path(&scene, 1, 0)[1499] += 0.01f;
    CHECK(error_db(&scene, 7, 0) > -90);
    scene_free(&scene);
}

static void silence_after_the_tail_is_silent(void) {
    struct scene scene = scene_new(1, 1, 700, 256, 4000);
    memset(scene.in + 1000, 0, 3000 * sizeof(float));
    run(&scene, odd);
    for (uint32_t n = 1000 + 700 + 2 * 256; n < scene.frames; n++)
        CHECK(scene.out[n] == 0);
    scene_free(&scene);
}

static void impossible_arguments_are_refused(void) {
    const float tap[4] = {1, 0, 0, 0};
    const uint32_t partitions[] = {1, 64, 128, 255, 257, 384, 131072, UINT32_MAX};
    const struct core_fir_spec right = {1, 1, 1, 4, tap, 0, {256, 512}}, wrong[] = {
        {0, 1, 1, 1, tap, 0, {0}},
        {1, 0, 1, 1, tap, 0, {0}},
        {1, 1, 0, 1, tap, 0, {0}},
        {1, 1, 1, 0, tap, 0, {0}},
        {1, 1, 1, 1, NULL, 0, {0}},
        {FIR_MAX_CHANNELS + 1, 1, 1, 1, tap, 0, {0}},
        {1, FIR_MAX_CHANNELS + 1, 1, 1, tap, 0, {0}},
        {1, 1, FIR_MAX_PHASES + 1, 1, tap, 0, {0}},
        {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, tap, UINT32_MAX, {0}},
        {1, 1, 1, FIR_MAX_TAPS + 1, tap, 0, {0}},
        {1, 1, 1, 4, tap, 0, {256, 256}},
        {1, 1, 1, 4, tap, 0, {512, 256}},
        {1, 1, 1, 4, tap, 0, {256, 768}},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(!core_fir_new(&wrong[i]));
    for (size_t i = 0; i < sizeof partitions / sizeof *partitions; i++) {
        struct core_fir_spec spec = right;
        spec.partitions[0] = partitions[i];
        CHECK(!core_fir_new(&spec));
    }
    struct core_filter *fir = core_fir_new(&right);
    CHECK(fir);
    core_filter_free(fir);
    core_filter_free(NULL);
}

static void block_with_too_few_channels_is_refused(void) {
    struct scene scene = scene_new(2, 2, 10, 0, 100), narrow = scene;
    struct core_filter *fir = make(&scene);
    narrow.inputs = narrow.outputs = 1;
    float before = scene.out[0];
    CHECK(process(fir, &narrow, 0, 100) != 0);
    CHECK(before == scene.out[0]);
    CHECK(process(fir, &scene, 0, 0) == 0);
    CHECK(before == scene.out[0]);
    core_filter_free(fir);
    scene_free(&scene);
}

int main(void) {
    impulse_comes_back_as_the_taps();
    any_length_in_any_blocks_is_exact();
    any_partition_is_exact();
    random_blocks_are_exact();
    stages_are_exact();
    stages_meet_without_a_seam();
    interpolation_is_exact();
    equal_paths_share_memory();
    mirrored_paths_are_exact_and_half_as_many();
    the_plan_covers_all_taps();
    priming_equals_processing();
    zero_paths_stay_silent_and_cost_nothing();
    matrices_are_exact();
    reset_equals_fresh();
    block_sizes_do_not_change_the_result();
    long_filter_is_exact();
    wrong_reference_is_detected();
    silence_after_the_tail_is_silent();
    impossible_arguments_are_refused();
    block_with_too_few_channels_is_refused();
    return 0;
}
