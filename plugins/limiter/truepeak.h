/* truepeak.h - how high a band-limited signal rises between its frames: interpolation to eight times the rate, in the manner of
   ITU-R BS.1770-5, Annex 2.

   First by two, with a steep filter, then by four, where a short one is enough: both are Kaiser-windowed sincs. A tone of f cycles per frame
   that is looked at n times a frame reads low by a factor of cos(pi f / n) at most (BS.1770-5, Annex 2, attachment 1). With f up
   to 1/2 that is 0.69 dB for n = 4, 0.17 dB for n = 8, 0.04 dB for n = 16. It does not depend on the rate, so n does not either. */
#ifndef SIGRACK_TRUEPEAK_H
#define SIGRACK_TRUEPEAK_H

#include <stdint.h>

#define TRUEPEAK_UNDER_DB 0.17
#define TRUEPEAK_STEEP 48u /* frames on each side of a middle that it is made of */
#define TRUEPEAK_SHORT 4u  /* half frames on each side of the other instants */
#define TRUEPEAK_REACH (TRUEPEAK_STEEP + TRUEPEAK_SHORT / 2)
#define TRUEPEAK_MOST 256u /* frames at once */
#define TRUEPEAK_SPARE 32u /* floats behind what is asked for that are read and written, but mean nothing */

struct truepeak {
    float steep[2 * TRUEPEAK_STEEP];
    float quarters[2 * TRUEPEAK_SHORT][3]; /* tap by tap, for the three instants of a half frame */
};

/* [control] */
void truepeak_design(struct truepeak *truepeak);

/* peak[i] = the largest of itself, |in[i + TRUEPEAK_REACH - 1]| and what lies between that frame and the next one. Reads
   2 * TRUEPEAK_REACH - 1 frames more than `frames`, which is TRUEPEAK_MOST at most. What a frame gets does not depend on the others. [engine] */
typedef void (*truepeak_run)(const struct truepeak *truepeak, const float *in, float *peak, uint32_t frames);

/* The one for the best level that this processor runs, not above SIGRACK_LEVEL (2, 3, 4) if that is set. [control] */
truepeak_run truepeak_chosen(void);

#endif
