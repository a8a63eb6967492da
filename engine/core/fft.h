/* fft.h - the transform behind the convolver, made for multiplying spectra and for nothing else.

   It maps `bins` complex values, seen as a polynomial modulo x^bins - i, to its values at the roots of that modulus. With
   z[n] = previous[n] + i * current[n] that ring equals real polynomials modulo x^(2 bins) + 1, so the product of two spectra is
   the negacyclic convolution of two windows of 2 * bins real values, and overlap-save throws the wrapped half away in any case.
   Against a real transform of 2 * bins points this needs half the points and no step that splits or joins them, and it has
   exactly `bins` bins with no special one. The bins stay in the order in which they fall out, as a product does not mind. */
#ifndef SIGRACK_FFT_H
#define SIGRACK_FFT_H

#include <stddef.h>
#include <stdint.h>

/* The same bounds at every level, so that all levels accept the same partitions: the innermost step takes a square of vectors,
   which is 256 bins for AVX-512. */
#define FFT_MIN_BINS 256
#define FFT_MAX_BINS 65536
/* No step of a transform works on more at once. */
#define FFT_STEP_BINS 4096u

struct fft;

/* What a forward transform reads, works in and writes. The spectrum lies in tiles of `tile` bins (struct fft_class), `stride` floats
   from one to the next: the real parts, then the imaginary ones. It may be read from where it works. */
struct fft_forward {
    const float *from_re, *from_im;
    float *re, *im; /* overwritten */
    float *to;
    size_t stride;
};

/* One level's transform. All arrays are 64-byte aligned; `re` and `im` hold `bins` floats each. */
struct fft_class {
    uint32_t tile;
    /* Tables for `bins`, a power of two within the bounds; NULL if it is not or memory runs out. [control] */
    struct fft *(*new)(uint32_t bins);
    /* Accepts NULL. [control] */
    void (*free)(struct fft *fft);
    /* Values to bins. [any] */
    void (*forward)(const struct fft *fft, const struct fft_forward *work);
    /* Bins, in the order of the tiles, to values times `bins`: their imaginary parts, in `im`. `re` is overwritten. [any] */
    void (*inverse)(const struct fft *fft, float *re, float *im);
    /* The same in parts of about FFT_STEP_BINS bins' work: steps 0 to `steps` - 1 in turn are one transform. [any] */
    uint32_t (*steps)(const struct fft *fft);
    void (*forward_step)(const struct fft *fft, const struct fft_forward *work, uint32_t step);
    void (*inverse_step)(const struct fft *fft, float *re, float *im, uint32_t step);
    /* How much of the whole a step is, as a forward step, in bins times levels. [any] */
    uint32_t (*step_size)(const struct fft *fft, uint32_t step);
    /* Memory held, in bytes. [any] */
    size_t (*bytes)(const struct fft *fft);
};

#ifdef KERNEL_SUFFIX
#include "kernels.h"
extern const struct fft_class KERNEL(fft_class);
#endif

#endif
