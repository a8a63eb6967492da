/* Every level's transform that this processor runs, against sums in double precision.

   The bins come out in an order of the transform's own, so the tests ask for what the convolver needs: the inverse undoes the
   forward transform, and a product of spectra is the overlap-save convolution. */
#include "check.h"
#include "fft.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* A counter through a mixer, evenly in -1 to 1; a plain congruential generator repeats itself at distances of powers of two. */
static float noise(void) {
    static uint32_t counter;
    uint32_t bits = counter++ * 0x9e3779b9u;
    bits = (bits ^ bits >> 16) * 0x85ebca6bu;
    bits = (bits ^ bits >> 13) * 0xc2b2ae35u;
    bits ^= bits >> 16;
    return (float)(int32_t)bits / 2147483648.0f;
}

static float *floats(size_t count) {
    float *memory = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
    CHECK(memory);
    return memory;
}

/* Transform in place; the spectrum goes through tiles that do not lie side by side, as the convolver's. */
static void forward(const struct fft_class *class, const struct fft *fft, uint32_t bins, float *re, float *im) {
    size_t stride = 6 * class->tile;
    float *tiles = floats(bins / class->tile * stride);
    class->forward(fft, &(struct fft_forward){re, im, re, im, tiles, stride});
    for (uint32_t n = 0; n < bins; n++) {
        const float *tile = tiles + n / class->tile * stride + n % class->tile;
        re[n] = tile[0];
        im[n] = tile[class->tile];
    }
    free(tiles);
}

static double decibel(double error, double peak) { return 20 * log10((error + 1e-30) / peak); }

static void inverse_undoes_forward(const struct fft_class *class, uint32_t bins) {
    struct fft *fft = class->new(bins);
    CHECK(fft);
    CHECK(class->bytes(fft) >= 2 * bins * sizeof(float));
    float *re = floats(bins), *im = floats(bins), *im_before = floats(bins);
    for (uint32_t n = 0; n < bins; n++) {
        re[n] = noise();
        im_before[n] = im[n] = noise();
    }
    forward(class, fft, bins, re, im);
    class->inverse(fft, re, im);
    double error = 0;
    for (uint32_t n = 0; n < bins; n++)
        error = fmax(error, fabs(im[n] / (double)bins - im_before[n]));
    CHECK(decibel(error, 1) < -120);
    free(re), free(im), free(im_before);
    class->free(fft);
}

/* The spectrum is the value at each root of x^bins - i, so the sum of |X|^2 is bins times the sum of |x|^2. */
static void energy_is_kept(const struct fft_class *class, uint32_t bins) {
    struct fft *fft = class->new(bins);
    float *re = floats(bins), *im = floats(bins);
    double before = 0, after = 0;
    for (uint32_t n = 0; n < bins; n++) {
        re[n] = noise();
        im[n] = noise();
        before += (double)re[n] * re[n] + (double)im[n] * im[n];
    }
    forward(class, fft, bins, re, im);
    for (uint32_t n = 0; n < bins; n++)
        after += (double)re[n] * re[n] + (double)im[n] * im[n];
    CHECK(fabs(after / before / bins - 1) < 1e-6);
    free(re), free(im);
    class->free(fft);
}

/* `shift` moves the reference by that many taps: 0 is right, 1 must be detected. */
static double product_error(const struct fft_class *class, uint32_t bins, uint32_t shift) {
    struct fft *fft = class->new(bins);
    float *taps = floats(bins), *signal = floats(2 * bins);
    float *tr = floats(bins), *ti = floats(bins), *sr = floats(bins), *si = floats(bins);
    for (uint32_t n = 0; n < bins; n++) {
        taps[n] = noise();
        signal[n] = noise();
        signal[bins + n] = noise();
    }
    memcpy(tr, taps, bins * sizeof(float));
    memset(ti, 0, bins * sizeof(float));
    memcpy(sr, signal, bins * sizeof(float));
    memcpy(si, signal + bins, bins * sizeof(float));
    forward(class, fft, bins, tr, ti);
    forward(class, fft, bins, sr, si);
    for (uint32_t n = 0; n < bins; n++) {
        float re = tr[n] * sr[n] - ti[n] * si[n];
        si[n] = tr[n] * si[n] + ti[n] * sr[n];
        sr[n] = re;
    }
    class->inverse(fft, sr, si);
    double error = 0, peak = 0;
    for (uint32_t n = 0; n < bins; n += bins / 256 + (bins > 256)) {
        double sum = 0;
        for (uint32_t k = 0; k < bins; k++)
            sum += (double)taps[k] * signal[bins + n - k - (shift && k < bins - 1)];
        error = fmax(error, fabs(si[n] / (double)bins - sum));
        peak = fmax(peak, fabs(sum));
    }
    free(taps), free(signal), free(tr), free(ti), free(sr), free(si);
    class->free(fft);
    return decibel(error, peak);
}

static void refuses_what_is_no_size(const struct fft_class *class) {
    const uint32_t wrong[] = {0, 1, 64, FFT_MIN_BINS - 1, FFT_MIN_BINS + 1, 384, 2 * FFT_MAX_BINS, UINT32_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(!class->new(wrong[i]));
    class->free(NULL);
}

static void check_class(const char *level, const struct fft_class *class) {
    double worst = -999;
    refuses_what_is_no_size(class);
    for (uint32_t bins = FFT_MIN_BINS; bins <= FFT_MAX_BINS; bins *= 2) {
        inverse_undoes_forward(class, bins);
        energy_is_kept(class, bins);
        worst = fmax(worst, product_error(class, bins, 0));
        CHECK(worst < -124);
        CHECK(product_error(class, bins, 1) > -60);
    }
    printf("fft %s: product error %.1f dB\n", level, worst);
}

#if defined(__x86_64__)
extern const struct fft_class fft_class_v2, fft_class_v3, fft_class_v4;

int main(void) {
    __builtin_cpu_init();
    check_class("x86-64_v2", &fft_class_v2);
    if (__builtin_cpu_supports("x86-64-v3"))
        check_class("x86-64_v3", &fft_class_v3);
    if (__builtin_cpu_supports("x86-64-v4"))
        check_class("x86-64_v4", &fft_class_v4);
    return 0;
}
#else
extern const struct fft_class fft_class_base;

int main(void) {
    check_class("base", &fft_class_base);
    return 0;
}
#endif
