/* fpu.h - denormal numbers become zero while the engine runs, and only then. */
#ifndef SIGRACK_FPU_H
#define SIGRACK_FPU_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>

typedef uint32_t fpu_state;
#define FPU_FLUSH 0x8040u /* FTZ and DAZ */
#define FPU_CLEAN (0x1f80u | FPU_FLUSH) /* no traps, rounded to nearest */

static inline fpu_state fpu_get(void) { return _mm_getcsr(); }
static inline void fpu_set(fpu_state state) { _mm_setcsr(state); }

#elif defined(__aarch64__)

typedef uint64_t fpu_state;
#define FPU_FLUSH (1ull << 24) /* FZ */
#define FPU_CLEAN FPU_FLUSH

static inline fpu_state fpu_get(void) {
    fpu_state state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    return state;
}
static inline void fpu_set(fpu_state state) { __asm__ volatile("msr fpcr, %0" : : "r"(state)); }

#else

typedef uint32_t fpu_state;
#define FPU_FLUSH 0u
#define FPU_CLEAN 0u
static inline fpu_state fpu_get(void) { return 0; }
static inline void fpu_set(fpu_state state) { (void)state; }

#endif

#endif
