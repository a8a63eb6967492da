/* The limiter in C: any cut into blocks, and what the engine thread may not do. What it does to sound is judged in
   test_limiter.py. */
#define _GNU_SOURCE
#include <linux/seccomp.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sigrack.h"
#include "threads.h"

#define CHANNELS 3u
#define LENGTH 30000u
#define REPORTS 4096u

/* One run of the plugin and what it has posted. */
struct run {
    float out[CHANNELS][LENGTH];
    double posted[REPORTS][5];
    uint32_t count;
};
static struct run whole, cut;
static struct run *posting;
static float input[CHANNELS][LENGTH];
static const struct sigrack_event changes[] = {{0, 0, -1.0},     {4000, 0, -12.0}, {4000, 1, 0.0}, {9001, 2, 10.0},
                                               {15000, 4, 3.21}, {20000, 0, -0.1}, {20001, 1, 5.0}};
#define CHANGES (sizeof changes / sizeof *changes)

static int post(uint64_t cookie, uint32_t factor, uint64_t frame, const double *values, uint32_t count) {
    (void)cookie;
    if (!posting || posting->count == REPORTS)
        return 0;
    double *record = posting->posted[posting->count++];
    record[0] = factor * 1e9 + (double)frame;
    memcpy(record + 1, values, count * sizeof *values);
    return 1;
}

static void *instance(uint32_t channels, const char *config) {
    const struct sigrack_plugin *plugin = sigrack_plugin_entry();
    double values[5];
    for (uint32_t i = 0; i < plugin->param_count; i++)
        values[i] = plugin->params[i].initial;
    char error[200] = "";
    void *self = plugin->create(&(struct sigrack_host){sizeof(struct sigrack_host), SIGRACK_ABI, 0, post}, config, error, 200);
    CHECK(self);
    struct sigrack_contract contract = {.size = sizeof contract};
    struct sigrack_setup setup = {sizeof setup, 48000, LENGTH, channels, values};
    CHECK(!plugin->activate(self, &setup, &contract));
    CHECK(contract.latency_frames == 50 + 72 + 14 && contract.tail_frames == contract.latency_frames && !contract.flags);
    return self;
}

static void process(void *self, struct run *run, uint32_t from, uint32_t to) {
    const float *in[CHANNELS];
    float *out[CHANNELS];
    struct sigrack_event events[CHANGES];
    struct sigrack_block block = {.size = sizeof block, .frames = to - from, .frame = from, .in = in, .out = out,
                                  .channels = CHANNELS, .events = events};
    for (uint32_t c = 0; c < CHANNELS; c++) {
        in[c] = input[c] + from;
        out[c] = run->out[c] + from;
    }
    for (uint32_t i = 0; i < CHANGES; i++)
        if (changes[i].offset >= from && changes[i].offset < to)
            events[block.event_count++] = (struct sigrack_event){changes[i].offset - from, changes[i].param, changes[i].value};
    posting = run;
    CHECK(!sigrack_plugin_entry()->process(self, &block));
}

static void fill_input(void) {
    uint64_t random = 9;
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < LENGTH; i++)
            input[c][i] = ((float)draw(&random, 2000001) * 1e-6f - 1.0f) * (i / 3000 % 2 ? 0.3f : 4.0f);
    input[1][11111] = NAN;
    input[2][11112] = -INFINITY;
    input[0][11113] = 1e30f;
}

static int equal(const struct run *a, const struct run *b) {
    return !memcmp(a->out, b->out, sizeof a->out) && a->count == b->count &&
           !memcmp(a->posted, b->posted, a->count * sizeof *a->posted);
}

static void any_cut_into_blocks_gives_the_same_bits(void) {
    const struct sigrack_plugin *plugin = sigrack_plugin_entry();
    void *self = instance(CHANNELS, "{}");
    process(self, &whole, 0, LENGTH);
    CHECK(whole.count > 20);
    for (uint64_t seed = 1; seed < (SANITIZED ? 5 : 20); seed++) {
        void *other = instance(CHANNELS, " { } ");
        uint64_t random = seed;
        uint32_t most = seed < 3 ? 2 : 1u << draw(&random, 12); /* at first none or one at a time */
        memset(&cut, 0, sizeof cut);
        for (uint32_t at = 0, to; at < LENGTH; at = to) {
            to = at + draw(&random, most + 1);
            process(other, &cut, at, to = to > LENGTH ? LENGTH : to);
        }
        CHECK(equal(&whole, &cut));
        plugin->destroy(other);
    }
    cut.out[1][LENGTH - 1] += 0x1p-20f; /* negative control */
    CHECK(!equal(&whole, &cut));
    plugin->destroy(self);
}

static void a_reset_forgets_the_sound(void) {
    const struct sigrack_plugin *plugin = sigrack_plugin_entry();
    void *self = instance(CHANNELS, "{}"), *fresh = instance(CHANNELS, "{}");
    process(self, &cut, 0, LENGTH - 77);
    plugin->reset(self);
    for (uint32_t i = 0; i < plugin->param_count; i++) { /* it keeps its parameters: set them back */
        struct sigrack_event event = {0, i, plugin->params[i].initial};
        CHECK(!plugin->process(self, &(struct sigrack_block){.size = sizeof(struct sigrack_block), .event_count = 1, .events = &event}));
    }
    process(self, &cut, 0, LENGTH);
    process(fresh, &whole, 0, LENGTH);
    CHECK(!memcmp(whole.out, cut.out, sizeof cut.out));
    plugin->destroy(self);
    plugin->destroy(fresh);
}

/* What the engine thread may not call, counted while it is marked. */
static _Thread_local int marked;
static uint32_t forbidden;

#define WRAP(result, name, parameters, arguments) \
    result __real_##name parameters;              \
    result __wrap_##name parameters;              \
    result __wrap_##name parameters {             \
        forbidden += marked != 0;                 \
        return __real_##name arguments;           \
    }

WRAP(void *, malloc, (size_t size), (size))
WRAP(void *, calloc, (size_t items, size_t size), (items, size))
WRAP(void *, realloc, (void *memory, size_t size), (memory, size))
WRAP(void, free, (void *memory), (memory))
WRAP(int, pthread_mutex_lock, (pthread_mutex_t * mutex), (mutex))
WRAP(ssize_t, write, (int descriptor, const void *from, size_t size), (descriptor, from, size))
WRAP(int, puts, (const char *text), (text))
WRAP(size_t, fwrite, (const void *from, size_t size, size_t items, FILE *file), (from, size, items, file))

/* In blocks of 0 to 999 frames, with a reset in the middle. */
static void play(void *self) {
    uint64_t random = 21;
    for (uint32_t at = 0, to; at < LENGTH; at = to) {
        to = at + draw(&random, 1000);
        process(self, &cut, at, to = to > LENGTH ? LENGTH : to);
        if (at < LENGTH / 2 && to >= LENGTH / 2)
            sigrack_plugin_entry()->reset(self);
    }
}

static void the_engine_thread_allocates_locks_and_prints_nothing(void) {
    void *self = instance(CHANNELS, "{}");
    cut.count = 0;
    marked = 1;
    play(self);
    marked = 0;
    CHECK(!forbidden && cut.count > 20);
    marked = 1; /* negative control: on the engine thread this would be wrong */
    sigrack_plugin_entry()->destroy(self);
    marked = 0;
    CHECK(forbidden >= 5);
}

/* The signal that ends a child which may only read, write and exit, 0 if it comes through. */
static int ended_by(void (*work)(void *self)) {
    void *self = instance(CHANNELS, "{}");
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
            _exit(77);
        work(self);
        syscall(SYS_exit, 0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    sigrack_plugin_entry()->destroy(self);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        return -1; /* a kernel without filters */
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void ask(void *self) { syscall(SYS_getpid, self); }

static void the_engine_thread_makes_no_system_call(void) {
    if (SANITIZED || ended_by(ask) < 0)
        return; /* sanitizers make calls of their own */
    CHECK(ended_by(play) == 0);
    CHECK(ended_by(ask) == SIGKILL); /* negative control */
}

static void every_number_of_channels_runs(void) {
    static float silence[64], out[SIGRACK_MAX_CHANNELS][64];
    const float *in[SIGRACK_MAX_CHANNELS];
    float *outs[SIGRACK_MAX_CHANNELS];
    for (uint32_t channels = 1; channels <= SIGRACK_MAX_CHANNELS; channels++) {
        void *self = instance(channels, "{\"lookahead_ms\": 1.5}");
        in[channels - 1] = silence;
        outs[channels - 1] = out[channels - 1];
        struct sigrack_block block = {.size = sizeof block, .frames = 64, .in = in, .out = outs, .channels = channels};
        out[channels - 1][63] = 1.0f;
        CHECK(!sigrack_plugin_entry()->process(self, &block) && out[channels - 1][63] == 0.0f);
        sigrack_plugin_entry()->destroy(self);
    }
}

static void a_configuration_that_is_not_one_is_refused(void) {
    const char *bad[] = {"", "{", "{}x", "[]", "{\"lookahead\": 1}", "{\"lookahead_ms\"}", "{\"lookahead_ms\" 1}", "{\"lookahead_ms\":}",
                         "{\"lookahead_ms\": 0.4}", "{\"lookahead_ms\": 10.1}", "{\"lookahead_ms\": \"1\"}", "{\"lookahead_ms\": 1, \"x\": 1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char error[200] = "";
        CHECK(!sigrack_plugin_entry()->create(&(struct sigrack_host){0}, bad[i], error, sizeof error));
        CHECK(strstr(error, "lookahead_ms"));
    }
}

int main(void) {
    fill_input();
    any_cut_into_blocks_gives_the_same_bits();
    a_reset_forgets_the_sound();
    the_engine_thread_allocates_locks_and_prints_nothing();
    the_engine_thread_makes_no_system_call();
    every_number_of_channels_runs();
    a_configuration_that_is_not_one_is_refused();
}
