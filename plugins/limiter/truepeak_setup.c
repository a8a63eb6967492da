#include <math.h>
#include <stdlib.h>

#include "truepeak.h"

#define PI 3.14159265358979323846
#define STEEP_BETA 5.0 /* ripple 0.02 dB, images below -54 dB; more would widen the transition band: 0.48 to 0.52 of the rate */
#define SHORT_BETA 6.2 /* the same with 0.005 dB and -65 dB; there is room from one half to three halves of the rate */

/* The modified Bessel function of the first kind and order 0, by its power series. */
static double bessel(double x) {
    double sum = 1.0, term = 1.0;
    for (int k = 1; term > 1e-18 * sum; k++) {
        term *= (x / (2.0 * k)) * (x / (2.0 * k));
        sum += term;
    }
    return sum;
}

/* A windowed sinc that ends `half` points away, `at` points from its middle. */
static double kernel(double at, double half, double beta) {
    return sin(PI * at) / (PI * at) * bessel(beta * sqrt(1.0 - at / half * at / half)) / bessel(beta);
}

void truepeak_design(struct truepeak *truepeak) {
    for (uint32_t j = 0; j < 2 * TRUEPEAK_STEEP; j++)
        truepeak->steep[j] = (float)kernel(j + 0.5 - TRUEPEAK_STEEP, TRUEPEAK_STEEP, STEEP_BETA);
    for (uint32_t j = 0; j < 2 * TRUEPEAK_SHORT; j++)
        for (uint32_t k = 0; k < 3; k++)
            truepeak->quarters[j][k] = (float)kernel(j + 1.0 - TRUEPEAK_SHORT - 0.25 * (k + 1), TRUEPEAK_SHORT, SHORT_BETA);
}

#if defined(__x86_64__)
void truepeak_run_v2(const struct truepeak *truepeak, const float *in, float *peak, uint32_t frames);
void truepeak_run_v3(const struct truepeak *truepeak, const float *in, float *peak, uint32_t frames);
void truepeak_run_v4(const struct truepeak *truepeak, const float *in, float *peak, uint32_t frames);

truepeak_run truepeak_chosen(void) {
    __builtin_cpu_init();
    const char *wish = getenv("SIGRACK_LEVEL");
    int top = wish ? atoi(wish) : 4;
    if (top >= 4 && __builtin_cpu_supports("x86-64-v4"))
        return truepeak_run_v4;
    if (top >= 3 && __builtin_cpu_supports("x86-64-v3"))
        return truepeak_run_v3;
    return truepeak_run_v2;
}
#else
void truepeak_run_base(const struct truepeak *truepeak, const float *in, float *peak, uint32_t frames);

truepeak_run truepeak_chosen(void) { return truepeak_run_base; }
#endif
