/* fpu.h - denormal numbers become zero while the engine runs, and only then. */
#ifndef SIGRACK_FPU_H
#define SIGRACK_FPU_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>

#define FPU_FLUSH 0x8040u /* FTZ and DAZ */

/* Returns what to give to `fpu_restore`. [engine] */
static inline uint32_t fpu_flush_denormals(void) {
    uint32_t before = _mm_getcsr();
    _mm_setcsr(before | FPU_FLUSH);
    return before;
}

/* Also undoes whatever a plugin has left in the register. [engine] */
static inline void fpu_restore(uint32_t before) { _mm_setcsr(before); }

#elif defined(__aarch64__)

static inline uint32_t fpu_flush_denormals(void) {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (1u << 24)));
    return (uint32_t)before;
}

static inline void fpu_restore(uint32_t before) { __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)before)); }

#else
static inline uint32_t fpu_flush_denormals(void) { return 0; }
static inline void fpu_restore(uint32_t before) { (void)before; }
#endif

#endif
