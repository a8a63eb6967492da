/* crash.h - a record, in a mapped file, of what the process was doing when it died.

   The file outlives the process. A handler on a stack of its own writes which signal came, on which thread, and in which slot, hook or
   call, then lets the signal do what it would have done. What cannot be handled (SIGKILL, _exit) leaves what was noted before.

   Two heartbeats, blocks and turns of the main loop, lie in a page of memory that others may read while the process hangs: by the
   descriptor that the record names, in /proc/PID/fd. Not in the record's file: a store into a file on a disk may wait for the disk. */
#ifndef SIGRACK_CRASH_H
#define SIGRACK_CRASH_H

#include <stdatomic.h>
#include <stdint.h>

#include "core.h"
#include "engine.h"

#define CRASH_MAGIC 0x53524331u /* "SRC1" */
#define CRASH_TEXT 128u         /* bytes of a text, with the zero at its end */
#define CRASH_NAMES 512u        /* plugins whose hooks can be told apart; 0 stands for none */
#define CRASH_STEPS 256u

/* Whether the process runs, and which heartbeats must go on. */
enum crash_due { CRASH_READY = 1, CRASH_DUE_TURNS = 2, CRASH_DUE_BLOCKS = 4 };

struct core_beats {
    _Atomic uint64_t blocks; /* of the watched engine */
    _Atomic uint64_t turns;  /* of the main loop [main] */
    _Atomic uint32_t due;    /* enum crash_due [main] */
    _Atomic int32_t engine_thread; /* its id, 0: none has begun */
};

enum crash_thread { CRASH_OTHER, CRASH_MAIN, CRASH_CONTROL, CRASH_ENGINE, CRASH_THREADS };

struct core_crash_record {
    uint32_t magic, size;
    int32_t pid;
    _Atomic int32_t signal; /* 0: none that could be handled */
    int64_t began_ns, died_ns; /* CLOCK_REALTIME */
    uint32_t thread;           /* enum crash_thread, of the signal */
    int32_t beats;             /* descriptor of `struct core_beats`, -1: none could be had */
    uint64_t address, frame; /* that could not be touched; of the engine's next block */
    char where[CRASH_TEXT]; /* slot, plugin or call; empty: none is known */
    /* Noted while all is well. */
    _Atomic uint32_t hook; /* number of the plugin whose hook runs, 0: none [main] */
    uint32_t loading;      /* number of what is being loaded or started, 0: nothing [one at a time] */
    int64_t loading_ns;    /* since when, CLOCK_REALTIME */
    char call[CRASH_TEXT]; /* what the control thread does, or nothing [control] */
    char names[CRASH_NAMES][CRASH_TEXT];
    uint64_t serials[2]; /* of the run lists whose steps follow */
    char steps[2][CRASH_STEPS][CRASH_TEXT];
};

/* Map the file at `path`, which is made or begun anew, and handle SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT from now on. Once in a
   process. NULL on failure, with errno in `why`. [main] */
CORE_API struct core_crash_record *core_crash_open(const char *path, int *why);
/* The process ends in order, and who has made the file removes it; signals do what they did before. The record stays mapped. [main] */
CORE_API void core_crash_close(void);
/* Say who the calling thread is, and give it a stack for the handler. Nothing without a record. [any] */
CORE_API void core_crash_thread(uint32_t thread);
/* Say that the calling thread works for the plugin with that number only. [any] */
CORE_API void core_crash_owner(uint32_t number);
/* Let the record tell of this engine, and the heartbeats; NULL: of none any more. [main, while no block runs] */
CORE_API void core_crash_watch(struct core_engine *engine);
/* The heartbeats of this process, for as long as it lives. [any, after core_crash_open] */
CORE_API struct core_beats *core_crash_beats(void);

#endif
