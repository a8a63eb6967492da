/* sigrack_signal.h - what a signal engine exports: a library with threads of its own that turns data into factors.

   create -> register_callback -> on_data ... -> destroy. Data and values are borrowed for the length of the call: copy what
   you keep. `signal_create`, `signal_on_data` and `signal_destroy` must be there; the others are optional. */
#ifndef SIGRACK_SIGNAL_H
#define SIGRACK_SIGNAL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SIGRACK_SIGNAL_ABI 1

#if defined(__GNUC__)
#define SIGNAL_EXPORT __attribute__((visibility("default")))
#else
#define SIGNAL_EXPORT
#endif

/* Kinds of data. */
#define SIGNAL_DEPTH 101       /* struct signal_depth */
#define SIGNAL_TICKER 102      /* struct signal_ticker */
#define SIGNAL_TRADE 103       /* struct signal_trade */
#define SIGNAL_INDEX_PRICE 104 /* struct signal_index_price */
#define SIGNAL_AUDIO 200       /* struct signal_audio */

#define SIGNAL_LEVELS 10
#define SIGNAL_SYMBOL_SIZE 32 /* with the NUL at the end */

/* Sides of a trade: of the one who took the offer. */
#define SIGNAL_SIDE_UNKNOWN 0u
#define SIGNAL_SIDE_BUY 1u
#define SIGNAL_SIDE_SELL 2u

/* Market-like data: each struct has its natural alignment and no padding. `size` is the sizeof, `ts_ns` the source's own clock in
   nanoseconds since 1970 (UTC), `symbol` is in upper case, without - _ / and spaces. */
struct signal_depth {
    uint32_t size;
    uint32_t levels; /* how many of the levels below are there; the others are 0 */
    int64_t ts_ns;
    char symbol[SIGNAL_SYMBOL_SIZE];
    double bid_price[SIGNAL_LEVELS]; /* the best first */
    double bid_size[SIGNAL_LEVELS];
    double ask_price[SIGNAL_LEVELS];
    double ask_size[SIGNAL_LEVELS];
};

struct signal_ticker {
    uint32_t size;
    uint32_t flags; /* 0 */
    int64_t ts_ns;
    char symbol[SIGNAL_SYMBOL_SIZE];
    double bid_price;
    double bid_size;
    double ask_price;
    double ask_size;
    double last_price;
};

struct signal_trade {
    uint32_t size;
    uint32_t side; /* SIGNAL_SIDE_... */
    int64_t ts_ns;
    char symbol[SIGNAL_SYMBOL_SIZE];
    double price;
    double quantity;
    uint64_t trade_id; /* 0 if the source has none */
};

struct signal_index_price {
    uint32_t size;
    uint32_t flags; /* 0 */
    int64_t ts_ns;
    char symbol[SIGNAL_SYMBOL_SIZE];
    double price;
};

struct signal_audio {
    uint32_t size; /* sizeof(struct signal_audio) */
    uint32_t rate_hz;
    uint32_t channels;
    uint32_t frames;
    uint64_t frame;              /* rack frame number of the first frame */
    const float *const *samples; /* planar: samples[c][0 .. frames-1] */
};

/* Hand a result to the host. Safe from any thread, also after `signal_destroy`. Never blocks in a live rack; in freewheel and
   replay it waits for room. `user` is passed back as it was given. [any] */
typedef void (*signal_callback)(const char *symbol, long long ts_ns, const double *values, int count, void *user);

/* Make an engine from the [signal.config] table as JSON. NULL means failure. [control] */
SIGNAL_EXPORT void *signal_create(const char *config_json);
/* Optional. Returns 0 on success. The engine may call back from here on. In freewheel and replay a call waits while the ring of
   `queue` records is full, which is drained only after this has returned: so it must not itself post more than that. [control] */
SIGNAL_EXPORT int signal_register_callback(void *handle, signal_callback callback, void *user);
/* [feeder] */
SIGNAL_EXPORT void signal_on_data(void *handle, int type, const void *data);
/* Optional: run callbacks that wait, on the caller's thread; returns how many ran. [feeder] */
SIGNAL_EXPORT int signal_poll_callbacks(void *handle);
/* No callback may start after this has returned; the host refuses and counts those that do. [control] */
SIGNAL_EXPORT void signal_destroy(void *handle);
/* Optional: SIGRACK_SIGNAL_ABI; checked at load. [control] */
SIGNAL_EXPORT int signal_abi_version(void);
/* Optional: sizeof the struct of this kind of data as the engine knows it, 0 for a kind it does not take; checked at load.
   [control] */
SIGNAL_EXPORT int signal_data_size(int type);
/* Optional: 1 if the library leaves nothing behind after its last `signal_destroy`: no thread, no thread-local destructor, no
   atexit handler. The host may unmap it then; otherwise it never does. [control] */
SIGNAL_EXPORT int signal_unloadable(void);

#ifdef __cplusplus
}
#endif
#endif
