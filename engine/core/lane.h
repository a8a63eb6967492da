/* lane.h - the widest vector of floats that the level being compiled has, for the files that are compiled once per level. */
#ifndef SIGRACK_LANE_H
#define SIGRACK_LANE_H

#if defined(__AVX512F__)
#define LANE_WIDTH 16
#define LANE_LOG 4
#elif defined(__AVX2__)
#define LANE_WIDTH 8
#define LANE_LOG 3
#else
#define LANE_WIDTH 4
#define LANE_LOG 2
#endif

/* Bins of a tile of a spectrum: two lanes. */
#define TILE_BINS (2 * LANE_WIDTH)
#define TILE_FLOATS (2 * TILE_BINS)

/* `lane` for aligned memory, `lane_loose` for memory at any float. */
typedef float lane __attribute__((vector_size(LANE_WIDTH * sizeof(float)), may_alias));
typedef float lane_loose __attribute__((vector_size(LANE_WIDTH * sizeof(float)), aligned(sizeof(float)), may_alias));

#define LANE_INLINE static inline __attribute__((always_inline))

/* Before a loop whose count is known when compiling: without this, arrays of lanes would live in memory, not in registers. */
#if defined(__clang__)
#define LANE_UNROLL _Pragma("unroll")
#else
#define LANE_UNROLL _Pragma("GCC unroll 16")
#endif

/* All elements equal to `value`; subtracting zero is exact, so compilers drop it. [any] */
LANE_INLINE lane lane_spread(float value) { return value - (lane){0}; }

/* Ask for a tile's lines, whether to read or to write them: processors foresee only what is read in order. [any] */
LANE_INLINE void tile_prefetch(const float *tile) {
    for (int n = 0; n < TILE_FLOATS; n += 16)
        __builtin_prefetch(tile + n);
}

LANE_INLINE lane lane_load(const float *from) { return *(const lane *)from; }
LANE_INLINE lane lane_load_loose(const float *from) { return *(const lane_loose *)from; }
LANE_INLINE void lane_store(float *to, lane value) { *(lane *)to = value; }

/* Transpose a square of LANE_WIDTH rows in place. [any] */
#if LANE_WIDTH == 8
/* Eight wide, AVX2 moves cheaply only inside its 128-bit halves: swap pairs, then pairs of pairs, then the halves. */
LANE_INLINE void lane_transpose(lane *row) {
    lane pair[8], quad[8];
    LANE_UNROLL for (int i = 0; i < 8; i += 2) {
        pair[i] = __builtin_shufflevector(row[i], row[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        pair[i + 1] = __builtin_shufflevector(row[i], row[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    LANE_UNROLL for (int i = 0; i < 8; i += 4) {
        quad[i] = __builtin_shufflevector(pair[i], pair[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        quad[i + 1] = __builtin_shufflevector(pair[i], pair[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        quad[i + 2] = __builtin_shufflevector(pair[i + 1], pair[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        quad[i + 3] = __builtin_shufflevector(pair[i + 1], pair[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    LANE_UNROLL for (int i = 0; i < 4; i++) {
        row[i] = __builtin_shufflevector(quad[i], quad[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        row[i + 4] = __builtin_shufflevector(quad[i], quad[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
#else
#if LANE_WIDTH == 16
#define LANE_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define LANE_HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#else
#define LANE_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define LANE_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#endif
/* Interleaving the upper with the lower half rotates the bits of each element's place by one; LANE_LOG times swap row and
   column. */
LANE_INLINE void lane_transpose(lane *row) {
    LANE_UNROLL for (int turn = 0; turn < LANE_LOG; turn++) {
        lane next[LANE_WIDTH];
        LANE_UNROLL for (int i = 0; i < LANE_WIDTH / 2; i++) {
            next[2 * i] = LANE_LOW(row[i], row[i + LANE_WIDTH / 2]);
            next[2 * i + 1] = LANE_HIGH(row[i], row[i + LANE_WIDTH / 2]);
        }
        LANE_UNROLL for (int i = 0; i < LANE_WIDTH; i++)
            row[i] = next[i];
    }
}
#endif

#endif
