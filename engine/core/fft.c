/* fft.c - see fft.h. Compiled once per level: KERNEL_SUFFIX names the copy.

   Decimation works on the modulus: x^n - w = (x^(n/2) - r) (x^(n/2) + r) with r * r = w, so a polynomial a + b x^(n/2)
   becomes the pair a + r b, a - r b. The moduli form a binary tree. Its nodes are numbered as in a heap: node 1 is x^bins - i,
   and node k has the children 2k and 2k + 1. Each node needs one root only, so the roots are read in order and broadcast. The
   last LANE_WIDTH squared points of a branch are done in registers: half their levels on rows, a transposition, half on
   columns. */
#include "fft.h"

#include "kernels.h"
#include "lane.h"
#include "memory.h"

#include <math.h>
#include <stdbool.h>

#define PI 3.14159265358979323846
#define SQUARE (LANE_WIDTH * LANE_WIDTH)

/* Lanes of roots that the columns of one square need: 1 + 2 + ... + LANE_WIDTH / 2 complex ones. */
#define SQUARE_ROOTS (2 * (LANE_WIDTH - 1))

/* A part of a transform: a whole branch of the tree, or, where `to` is not 0, columns of the pass above four branches. */
struct step {
    uint32_t size, node; /* the branch: its bins, its node */
    uint32_t from, to;
};

#define MOST_STEPS 64

struct fft {
    uint32_t bins, steps;
    size_t bytes;
    struct step step[MOST_STEPS]; /* in the order of the forward transform */
    float *roots;   /* re, im of each node above the columns, by node */
    float *columns; /* [square][SQUARE_ROOTS][LANE_WIDTH], each lane for its own node */
};

/* What some levels read. */
struct source {
    const float *re, *im;
};

/* A row of complex values. */
struct row {
    lane re, im;
};

/* The angle of w in node `node`'s modulus x^n - w. */
static double node_angle(uint32_t node) {
    if (node == 1)
        return PI / 2;
    return node_angle(node / 2) / 2 + (node % 2 ? PI : 0);
}

static void fill_roots(float *roots, uint32_t nodes) {
    for (uint32_t node = 1; node < nodes; node++) {
        roots[2 * node] = (float)cos(node_angle(node) / 2);
        roots[2 * node + 1] = (float)sin(node_angle(node) / 2);
    }
}

/* `first` is the node of the first column. */
static void fill_columns(float *columns, uint32_t first) {
    for (uint32_t level = 0; level < LANE_LOG; level++) {
        for (uint32_t child = 0; child < 1u << level; child++) {
            for (uint32_t k = 0; k < LANE_WIDTH; k++) {
                double angle = node_angle(((first + k) << level) + child) / 2;
                columns[k] = (float)cos(angle);
                columns[LANE_WIDTH + k] = (float)sin(angle);
            }
            columns += 2 * LANE_WIDTH;
        }
    }
}

static void fft_free(struct fft *fft) {
    if (fft)
        free(fft->columns);
    free(fft);
}

static void add_step(struct fft *fft, struct step step) { fft->step[fft->steps++] = step; }

/* Passes over more than FFT_STEP_BINS bins are cut into columns, branches that fit are one step. */
static void cut(struct fft *fft, uint32_t size, uint32_t node) {
    if (size <= FFT_STEP_BINS) {
        add_step(fft, (struct step){size, node, 0, 0});
        return;
    }
    for (uint32_t from = 0; from < size / 4; from += FFT_STEP_BINS / 4)
        add_step(fft, (struct step){size, node, from, from + FFT_STEP_BINS / 4});
    for (uint32_t way = 0; way < 4; way++)
        cut(fft, size / 4, 4 * node + way);
}

static struct fft *fft_new(uint32_t bins) {
    if (bins < FFT_MIN_BINS || bins > FFT_MAX_BINS || (bins & (bins - 1)))
        return NULL;
    struct fft *fft = core_take(sizeof *fft);
    if (!fft)
        return NULL;
    uint32_t squares = bins / SQUARE, nodes = bins / LANE_WIDTH;
    size_t columns = (size_t)squares * SQUARE_ROOTS * LANE_WIDTH;
    size_t size = (columns + 2 * (size_t)nodes) * sizeof(float);
    fft->bins = bins;
    cut(fft, bins, 1);
    fft->bytes = sizeof *fft + size;
    fft->columns = core_take(size);
    if (!fft->columns) {
        fft_free(fft);
        return NULL;
    }
    fft->roots = fft->columns + columns;
    fill_roots(fft->roots, nodes);
    for (uint32_t square = 0; square < squares; square++)
        fill_columns(fft->columns + (size_t)square * SQUARE_ROOTS * LANE_WIDTH, (squares + square) * LANE_WIDTH);
    return fft;
}

static size_t fft_bytes(const struct fft *fft) { return fft->bytes; }

LANE_INLINE struct row load(const float *re, const float *im, size_t at) {
    return (struct row){lane_load(re + at), lane_load(im + at)};
}

LANE_INLINE void store(float *re, float *im, size_t at, struct row row) {
    lane_store(re + at, row.re);
    lane_store(im + at, row.im);
}

LANE_INLINE struct row spread(const float *root) {
    return (struct row){lane_spread(root[0]), lane_spread(root[1])};
}

/* The root of node 2k + 1's children, given the one of node 2k's: it lies a quarter turn further. */
LANE_INLINE struct row quarter(struct row root) { return (struct row){-root.im, root.re}; }

/* (a, b) becomes (a + r b, a - r b). */
LANE_INLINE void split(struct row *a, struct row *b, struct row r) {
    lane re = b->re * r.re - b->im * r.im;
    lane im = b->im * r.re + b->re * r.im;
    b->re = a->re - re;
    b->im = a->im - im;
    a->re += re;
    a->im += im;
}

/* Undo `split`, times two. */
LANE_INLINE void join(struct row *a, struct row *b, struct row r) {
    lane re = a->re - b->re;
    lane im = a->im - b->im;
    a->re += b->re;
    a->im += b->im;
    b->re = re * r.re + im * r.im;
    b->im = im * r.re - re * r.im;
}

LANE_INLINE void transpose(struct row *rows) {
    lane part[LANE_WIDTH];
    LANE_UNROLL for (int i = 0; i < LANE_WIDTH; i++)
        part[i] = rows[i].re;
    lane_transpose(part);
    LANE_UNROLL for (int i = 0; i < LANE_WIDTH; i++) {
        rows[i].re = part[i];
        part[i] = rows[i].im;
    }
    lane_transpose(part);
    LANE_UNROLL for (int i = 0; i < LANE_WIDTH; i++)
        rows[i].im = part[i];
}

/* One level of the square's rows: all rows of a node share its root. */
LANE_INLINE void rows_level(const struct fft *fft, struct row *rows, uint32_t node, int level, bool forward) {
    int children = 1 << level, half = LANE_WIDTH >> (level + 1);
    LANE_UNROLL for (int child = 0; child < children; child++) {
        struct row root = spread(fft->roots + 2 * (((size_t)node << level) + (size_t)child));
        LANE_UNROLL for (int i = 0; i < half; i++) {
            struct row *a = rows + 2 * half * child + i;
            forward ? split(a, a + half, root) : join(a, a + half, root);
        }
    }
}

/* One level of the square's columns: each column is a node of its own, with its own root. */
LANE_INLINE void columns_level(const float *columns, struct row *rows, int level, bool forward) {
    int children = 1 << level, half = LANE_WIDTH >> (level + 1);
    LANE_UNROLL for (int child = 0; child < children; child++) {
        const float *at = columns + (children - 1 + child) * 2 * LANE_WIDTH;
        struct row root = load(at, at + LANE_WIDTH, 0);
        LANE_UNROLL for (int i = 0; i < half; i++) {
            struct row *a = rows + 2 * half * child + i;
            forward ? split(a, a + half, root) : join(a, a + half, root);
        }
    }
}

/* The first bin of the branch `node`. */
static size_t place(const struct fft *fft, size_t size, uint32_t node) { return (node - fft->bins / size) * size; }

/* Where the levels of a branch read: the first ones what is given. */
static struct source source_of(const struct fft *fft, const struct fft_forward *work, size_t size, size_t at) {
    return size == fft->bins ? (struct source){work->from_re, work->from_im} : (struct source){work->re + at, work->im + at};
}

LANE_INLINE const float *columns_of(const struct fft *fft, uint32_t node) {
    return fft->columns + (size_t)(node - fft->bins / SQUARE) * SQUARE_ROOTS * LANE_WIDTH;
}

/* All levels of one square, whose node is `node`. */
static void forward_square(const struct fft *fft, const struct fft_forward *work, uint32_t node) {
    struct row rows[LANE_WIDTH];
    size_t at = place(fft, SQUARE, node);
    struct source from = source_of(fft, work, SQUARE, at);
    float *to = work->to + at / TILE_BINS * work->stride;
    for (int i = 0; i < LANE_WIDTH / 2; i++)
        tile_prefetch(to + i * work->stride);
    LANE_UNROLL for (int i = 0; i < LANE_WIDTH; i++)
        rows[i] = load(from.re, from.im, (size_t)i * LANE_WIDTH);
    LANE_UNROLL for (int level = 0; level < LANE_LOG; level++)
        rows_level(fft, rows, node, level, true);
    transpose(rows);
    LANE_UNROLL for (int level = 0; level < LANE_LOG; level++)
        columns_level(columns_of(fft, node), rows, level, true);
    LANE_UNROLL for (int i = 0; i < LANE_WIDTH; i += 2) {
        store(to, to + TILE_BINS, 0, rows[i]);
        store(to, to + TILE_BINS, LANE_WIDTH, rows[i + 1]);
        to += work->stride;
    }
}

static void inverse_square(const struct fft *fft, float *re, float *im, uint32_t node) {
    struct row rows[LANE_WIDTH];
    LANE_UNROLL for (int i = 0; i < LANE_WIDTH; i++)
        rows[i] = load(re, im, (size_t)i * LANE_WIDTH);
    LANE_UNROLL for (int level = LANE_LOG - 1; level >= 0; level--)
        columns_level(columns_of(fft, node), rows, level, false);
    transpose(rows);
    LANE_UNROLL for (int level = LANE_LOG - 1; level >= 0; level--)
        rows_level(fft, rows, node, level, false);
    LANE_UNROLL for (int i = 0; i < LANE_WIDTH; i++)
        store(re, im, (size_t)i * LANE_WIDTH, rows[i]);
}

/* One level in memory, for the branch that is one level above its squares. */
static void forward_one(const struct fft *fft, const struct fft_forward *work, size_t size, uint32_t node) {
    size_t start = place(fft, size, node);
    struct source from = source_of(fft, work, size, start);
    float *re = work->re + start, *im = work->im + start;
    struct row root = spread(fft->roots + 2 * node);
    for (size_t at = 0; at < size / 2; at += LANE_WIDTH) {
        struct row a = load(from.re, from.im, at), b = load(from.re, from.im, at + size / 2);
        split(&a, &b, root);
        store(re, im, at, a);
        store(re, im, at + size / 2, b);
    }
}

static void inverse_one(const struct fft *fft, float *re, float *im, size_t size, uint32_t node) {
    struct row root = spread(fft->roots + 2 * node);
    for (size_t at = 0; at < size / 2; at += LANE_WIDTH) {
        struct row a = load(re, im, at), b = load(re, im, at + size / 2);
        join(&a, &b, root);
        store(re, im, at, a);
        store(re, im, at + size / 2, b);
    }
}

/* Two levels in one pass over memory, for the columns `from` to `to` - 1 of size / 4. */
static void forward_two(const struct fft *fft, const struct fft_forward *work, size_t size, uint32_t node, size_t from, size_t to) {
    size_t step = size / 4, start = place(fft, size, node);
    struct source source = source_of(fft, work, size, start);
    float *re = work->re + start, *im = work->im + start;
    struct row root = spread(fft->roots + 2 * node);
    struct row left = spread(fft->roots + 4 * node), right = quarter(left);
    for (size_t at = from; at < to; at += LANE_WIDTH) {
        struct row row[4];
        LANE_UNROLL for (int i = 0; i < 4; i++)
            row[i] = load(source.re, source.im, at + i * step);
        split(&row[0], &row[2], root);
        split(&row[1], &row[3], root);
        split(&row[0], &row[1], left);
        split(&row[2], &row[3], right);
        LANE_UNROLL for (int i = 0; i < 4; i++)
            store(re, im, at + i * step, row[i]);
    }
}

/* The `last` pass leaves the real parts, which nobody wants. */
LANE_INLINE void inverse_columns(const struct fft *fft, float *re, float *im, size_t size, uint32_t node, size_t from, size_t to,
                                 bool last) {
    size_t step = size / 4;
    struct row root = spread(fft->roots + 2 * node);
    struct row left = spread(fft->roots + 4 * node), right = quarter(left);
    for (size_t at = from; at < to; at += LANE_WIDTH) {
        struct row row[4];
        LANE_UNROLL for (int i = 0; i < 4; i++)
            row[i] = load(re, im, at + i * step);
        join(&row[0], &row[1], left);
        join(&row[2], &row[3], right);
        join(&row[0], &row[2], root);
        join(&row[1], &row[3], root);
        LANE_UNROLL for (int i = 0; i < 4; i++) {
            if (!last)
                lane_store(re + at + i * step, row[i].re);
            lane_store(im + at + i * step, row[i].im);
        }
    }
}

static void inverse_two(const struct fft *fft, float *re, float *im, size_t size, uint32_t node, size_t from, size_t to) {
    if (size == fft->bins)
        inverse_columns(fft, re, im, size, node, from, to, true);
    else
        inverse_columns(fft, re, im, size, node, from, to, false);
}

/* Depth first, so that a branch that fits a cache is finished while it is there. */
static void forward_branch(const struct fft *fft, const struct fft_forward *work, size_t size, uint32_t node) {
    if (size == SQUARE) {
        forward_square(fft, work, node);
        return;
    }
    uint32_t ways = size == 2 * SQUARE ? 2 : 4;
    if (ways == 2)
        forward_one(fft, work, size, node);
    else
        forward_two(fft, work, size, node, 0, size / 4);
    for (uint32_t way = 0; way < ways; way++)
        forward_branch(fft, work, size / ways, ways * node + way);
}

static void inverse_branch(const struct fft *fft, float *re, float *im, size_t size, uint32_t node) {
    if (size == SQUARE) {
        inverse_square(fft, re, im, node);
        return;
    }
    uint32_t ways = size == 2 * SQUARE ? 2 : 4;
    size_t part = size / ways;
    for (uint32_t way = 0; way < ways; way++)
        inverse_branch(fft, re + way * part, im + way * part, part, ways * node + way);
    if (ways == 2)
        inverse_one(fft, re, im, size, node);
    else
        inverse_two(fft, re, im, size, node, 0, size / 4);
}

static void fft_forward(const struct fft *fft, const struct fft_forward *work) { forward_branch(fft, work, fft->bins, 1); }

static void fft_inverse(const struct fft *fft, float *re, float *im) { inverse_branch(fft, re, im, fft->bins, 1); }

static uint32_t fft_steps(const struct fft *fft) { return fft->steps; }

static void forward_step(const struct fft *fft, const struct fft_forward *work, uint32_t number) {
    const struct step *step = &fft->step[number];
    if (step->to)
        forward_two(fft, work, step->size, step->node, step->from, step->to);
    else
        forward_branch(fft, work, step->size, step->node);
}

/* The inverse undoes the last step first. */
static void inverse_step(const struct fft *fft, float *re, float *im, uint32_t number) {
    const struct step *step = &fft->step[fft->steps - 1 - number];
    size_t at = place(fft, step->size, step->node);
    if (step->to)
        inverse_two(fft, re + at, im + at, step->size, step->node, step->from, step->to);
    else
        inverse_branch(fft, re + at, im + at, step->size, step->node);
}

static uint32_t step_size(const struct fft *fft, uint32_t number) {
    const struct step *step = &fft->step[number];
    if (step->to)
        return 4 * (step->to - step->from) * 2;
    uint32_t levels = 0;
    while (step->size >> levels > 1)
        levels++;
    return step->size * levels;
}

const struct fft_class KERNEL(fft_class) = {TILE_BINS, fft_new,      fft_free,     fft_forward, fft_inverse,
                                            fft_steps, forward_step, inverse_step, step_size,   fft_bytes};
