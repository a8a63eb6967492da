/* spectrum.c - a signal engine as an example: energy and zero crossings of each window of audio.

   The feeder only copies audio into a queue; a thread of the engine's own does the work and calls the host back. Symbols, each
   with one value per channel, their time is the end of the window:
     ENERGY     mean square of the samples, full scale is 1
     CROSSINGS  changes of sign per second: a tone of f Hz has 2 f
   Window n begins at the first frame that is not before n * window_ms, so the windows lie on the grid of rack time. A window
   with a gap in it posts nothing. */
#define _POSIX_C_SOURCE 200809L
#include "sigrack_signal.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHANNELS 32
#define PIECES 512u          /* a power of two */
#define PIECE_SAMPLES 2048u  /* the queue holds PIECES of these: ten seconds of stereo at 48 kHz */
#define NS_PER_S 1000000000u

#define DEFAULT_WINDOW_MS 100u
#define MAX_WINDOW_MS 10000u

/* Audio that waits: interleaved frames without a gap. */
struct piece {
    uint64_t frame;
    uint32_t rate_hz, channels, frames;
    float samples[PIECE_SAMPLES];
};

/* The worker's own: the window that is being measured. */
struct window {
    uint64_t frame, end; /* the next frame, and the first frame that is no longer inside */
    uint32_t rate_hz, channels;
    uint32_t frames; /* measured so far */
    int whole;       /* no frame of the window was missed */
    int fresh;       /* there is no sample before the next one */
    float last[MAX_CHANNELS];
    double energy[MAX_CHANNELS];
    double crossings[MAX_CHANNELS];
};

struct engine {
    uint32_t window_ms;
    signal_callback callback;
    void *user;
    pthread_t thread;
    sem_t work;         /* posted for each piece, and to stop */
    atomic_bool stopping;
    atomic_uint tail;   /* pieces written; the feeder's */
    atomic_uint head;   /* pieces read; the worker's */
    uint64_t dropped;   /* frames that found no room; the feeder's */
    struct window window;
    struct piece pieces[PIECES];
};

/* The worker */

/* The first frame of the window after the one that holds `frame`. */
static uint64_t window_end(uint64_t frame, uint32_t rate_hz, uint32_t window_ms) {
    uint64_t frames_1000 = (uint64_t)rate_hz * window_ms; /* of a window, times 1000 */
    uint64_t number = frame * 1000 / frames_1000;
    return ((number + 1) * frames_1000 + 999) / 1000;
}

static void begin(struct window *window, uint32_t window_ms, int whole) {
    window->end = window_end(window->frame, window->rate_hz, window_ms);
    window->frames = 0;
    window->whole = whole;
    memset(window->energy, 0, sizeof window->energy);
    memset(window->crossings, 0, sizeof window->crossings);
}

/* Go on at `piece`, which does not follow what came before. */
static void restart(struct window *window, const struct piece *piece, uint32_t window_ms) {
    window->frame = piece->frame;
    window->rate_hz = piece->rate_hz;
    window->channels = piece->channels;
    window->fresh = 1;
    int at_start = !piece->frame || window_end(piece->frame - 1, piece->rate_hz, window_ms) == piece->frame;
    begin(window, window_ms, at_start);
}

static void post(struct engine *engine) {
    struct window *window = &engine->window;
    if (!engine->callback)
        return;
    for (uint32_t c = 0; c < window->channels; c++) {
        window->energy[c] /= window->frames;
        window->crossings[c] *= (double)window->rate_hz / window->frames;
    }
    uint64_t seconds = window->frame / window->rate_hz, rest = window->frame % window->rate_hz;
    long long ts_ns = (long long)(seconds * NS_PER_S + rest * NS_PER_S / window->rate_hz);
    engine->callback("ENERGY", ts_ns, window->energy, (int)window->channels, engine->user);
    engine->callback("CROSSINGS", ts_ns, window->crossings, (int)window->channels, engine->user);
}

static void measure(struct window *window, const float *frame) {
    for (uint32_t c = 0; c < window->channels; c++) {
        window->energy[c] += (double)frame[c] * (double)frame[c];
        if (!window->fresh)
            window->crossings[c] += (frame[c] < 0) != (window->last[c] < 0);
        window->last[c] = frame[c];
    }
    window->fresh = 0;
    window->frame++;
    window->frames++;
}

static void take(struct engine *engine, const struct piece *piece) {
    struct window *window = &engine->window;
    if (piece->frame != window->frame || piece->rate_hz != window->rate_hz || piece->channels != window->channels)
        restart(window, piece, engine->window_ms);
    for (uint32_t i = 0; i < piece->frames; i++) {
        measure(window, piece->samples + (size_t)i * piece->channels);
        if (window->frame == window->end) {
            if (window->whole)
                post(engine);
            begin(window, engine->window_ms, 1);
        }
    }
}

static void drain(struct engine *engine) {
    unsigned head = atomic_load_explicit(&engine->head, memory_order_relaxed);
    while (head != atomic_load_explicit(&engine->tail, memory_order_acquire)) {
        take(engine, &engine->pieces[head % PIECES]);
        atomic_store_explicit(&engine->head, ++head, memory_order_release);
    }
}

static void *work(void *argument) {
    struct engine *engine = argument;
    for (int stopping = 0; !stopping;) {
        while (sem_wait(&engine->work)) { /* interrupted by a signal */
        }
        stopping = atomic_load(&engine->stopping); /* before the drain: what was fed before the stop is still measured */
        drain(engine);
    }
    return NULL;
}

/* The configuration */

static const char *skip_space(const char *text) { return text + strspn(text, " \t\r\n"); }

/* Return what follows `token`, or NULL. */
static const char *skip(const char *text, const char *token) {
    size_t length = strlen(token);
    text = skip_space(text);
    return strncmp(text, token, length) ? NULL : text + length;
}

/* Read {} or {"window_ms": N} and nothing else. Returns 0 on success. */
static int parse(const char *json, uint32_t *window_ms) {
    const char *at = skip(json, "{");
    if (at && skip(at, "}")) {
        at = skip(at, "}");
        return *skip_space(at) != 0;
    }
    at = at ? skip(at, "\"window_ms\"") : NULL;
    at = at ? skip(at, ":") : NULL;
    if (!at)
        return -1;
    at = skip_space(at);
    size_t digits = strspn(at, "0123456789");
    if (!digits || digits > 5 || *at == '0')
        return -1;
    uint32_t value = 0;
    for (; digits; digits--)
        value = 10 * value + (uint32_t)(*at++ - '0');
    at = skip(at, "}");
    if (!at || *skip_space(at) || value > MAX_WINDOW_MS)
        return -1;
    *window_ms = value;
    return 0;
}

/* What the host calls */

int signal_abi_version(void) { return SIGRACK_SIGNAL_ABI; }

int signal_data_size(int type) { return type == SIGNAL_AUDIO ? (int)sizeof(struct signal_audio) : 0; }

void *signal_create(const char *config_json) {
    uint32_t window_ms = DEFAULT_WINDOW_MS;
    if (parse(config_json, &window_ms)) {
        fprintf(stderr, "spectrum: cannot use the configuration %.200s: only \"window_ms\" is known, a whole number from 1 to %u\n",
                config_json, MAX_WINDOW_MS);
        return NULL;
    }
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        fputs("spectrum: out of memory\n", stderr);
        return NULL;
    }
    engine->window_ms = window_ms;
    sem_init(&engine->work, 0, 0);
    if (pthread_create(&engine->thread, NULL, work, engine)) {
        fputs("spectrum: no thread can be started\n", stderr);
        sem_destroy(&engine->work);
        free(engine);
        return NULL;
    }
    return engine;
}

/* Called before any data, so the worker reads both fields only after the queue has passed them on. */
int signal_register_callback(void *handle, signal_callback callback, void *user) {
    struct engine *engine = handle;
    engine->callback = callback;
    engine->user = user;
    return 0;
}

static void fill(struct piece *piece, const struct signal_audio *audio, uint32_t start, uint32_t frames) {
    piece->frame = audio->frame + start;
    piece->rate_hz = audio->rate_hz;
    piece->channels = audio->channels;
    piece->frames = frames;
    for (uint32_t c = 0; c < audio->channels; c++)
        for (uint32_t i = 0; i < frames; i++)
            piece->samples[(size_t)i * audio->channels + c] = audio->samples[c][start + i];
}

void signal_on_data(void *handle, int type, const void *data) {
    struct engine *engine = handle;
    const struct signal_audio *audio = data;
    if (type != SIGNAL_AUDIO || !audio->channels || audio->channels > MAX_CHANNELS || !audio->rate_hz)
        return;
    uint32_t most = PIECE_SAMPLES / audio->channels;
    unsigned tail = atomic_load_explicit(&engine->tail, memory_order_relaxed);
    for (uint32_t start = 0, frames; start < audio->frames; start += frames) {
        frames = audio->frames - start < most ? audio->frames - start : most;
        if (tail - atomic_load_explicit(&engine->head, memory_order_acquire) == PIECES) {
            engine->dropped += frames; /* the worker sees the gap by the next piece's frame number */
            continue;
        }
        fill(&engine->pieces[tail % PIECES], audio, start, frames);
        atomic_store_explicit(&engine->tail, ++tail, memory_order_release);
        sem_post(&engine->work);
    }
}

void signal_destroy(void *handle) {
    struct engine *engine = handle;
    atomic_store(&engine->stopping, 1);
    sem_post(&engine->work);
    pthread_join(engine->thread, NULL);
    if (engine->dropped)
        fprintf(stderr, "spectrum: %llu frames were dropped: its queue was full\n", (unsigned long long)engine->dropped);
    sem_destroy(&engine->work);
    free(engine);
}
