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
#define SIGNAL_AUDIO 200 /* struct signal_audio */

struct signal_audio {
    uint32_t size; /* sizeof(struct signal_audio) */
    uint32_t rate_hz;
    uint32_t channels;
    uint32_t frames;
    uint64_t frame;              /* rack frame number of the first frame */
    const float *const *samples; /* planar: samples[c][0 .. frames-1] */
};

/* Hand a result to the host. Safe from any thread, also after `signal_destroy`; never blocks. `user` is passed back as it
   was given. [any] */
typedef void (*signal_callback)(const char *symbol, long long ts_ns, const double *values, int count, void *user);

/* Make an engine from the [signal.config] table as JSON. NULL means failure. [control] */
SIGNAL_EXPORT void *signal_create(const char *config_json);
/* Optional. Returns 0 on success. [control] */
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

#ifdef __cplusplus
}
#endif
#endif
