/* emulated.h - enough of CUDA to run kernels on a CPU: put in front of their source. The threads of a block take turns, from barrier to
   barrier, in an order that changes. Shared memory and what a kernel must write first are poisoned. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __shared__
#define __launch_bounds__(...)

struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
struct dim3 { unsigned x, y, z; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
template <typename T> static inline T __ldg(const T *address) { return *address; }
template <typename T> static inline void __stcs(T *address, T value) { *address = value; }
template <typename T> static inline T atomicAdd(T *address, T value) { T old = *address; *address += value; return old; }
static inline void __threadfence_system() {}

static dim3 threadIdx, blockIdx, blockDim, gridDim;

enum { MOST_THREADS = 64, STACK = 64 << 10 };
static ucontext_t back, fiber[MOST_THREADS];
static bool ended[MOST_THREADS];
static char stacks[MOST_THREADS][STACK];
static unsigned running;

void __syncthreads() { swapcontext(&fiber[running], &back); }

static void (*body)(const long long *);
static const long long *arguments;
static void run() {
    body(arguments);
    ended[running] = true;
}

extern "C" void emulate(void (*kernel)(const long long *), const long long *values, unsigned x, unsigned y, unsigned z, unsigned threads,
                        void *memory, unsigned long bytes) {
    gridDim = {x, y, z};
    blockDim = {threads, 1, 1};
    body = kernel;
    arguments = values;
    static unsigned launches;
    unsigned long parts = (unsigned long)x * y * z;
    launches++;
    for (unsigned long done = 0; done < parts; done++) {
        unsigned long part = launches % 2 ? done : parts - 1 - done; /* no order is promised */
        blockIdx = {(unsigned)(part % x), (unsigned)(part / x % y), (unsigned)(part / x / y)};
        memset(memory, 0xff, bytes);
        for (unsigned t = 0; t < threads; t++) {
            getcontext(&fiber[t]);
            fiber[t].uc_stack = {stacks[t], 0, STACK};
            fiber[t].uc_link = &back;
            makecontext(&fiber[t], run, 0);
            ended[t] = false;
        }
        for (unsigned left = threads, turn = 0; left; turn++)
            for (unsigned k = 0; k < threads; k++) {
                unsigned t = turn % 2 ? threads - 1 - k : k;
                if (ended[t])
                    continue;
                running = t;
                threadIdx = {t, 0, 0};
                swapcontext(&back, &fiber[t]);
                left -= ended[t];
            }
    }
}
