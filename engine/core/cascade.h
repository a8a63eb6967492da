/* cascade.h - second-order sections, side by side and one behind the other in the lanes of one vector.

   A cascade holds `depth` sections one behind the other for each of `width` channels, width * depth lanes in all. While a section
   works on one frame the next one works on the frame before, so that no lane waits for another: only its own feedback limits it.
   At the ends of a run the lanes that have no frame stand still, so a run is whole and adds no latency. */
#ifndef SIGRACK_CASCADE_H
#define SIGRACK_CASCADE_H

#include <stdalign.h>
#include <stdint.h>

#define CASCADE_MOST_LANES 8u

/* y = b0 x + s1; then s1 = c1 x - a1 s1 + s2, s2 = c2 x - a2 s1, with c = b - a b0: the direct form II transposed, its state
   updated from the state and the input alone. Lane d * width + c is section d of channel c. */
struct cascade {
    alignas(64) double b0[CASCADE_MOST_LANES];
    double c1[CASCADE_MOST_LANES], c2[CASCADE_MOST_LANES];
    double a1[CASCADE_MOST_LANES], a2[CASCADE_MOST_LANES];
    double s1[CASCADE_MOST_LANES], s2[CASCADE_MOST_LANES];
};

struct cascade_class {
    uint32_t lanes; /* 2, 4 or 8 */
    /* Let `frames` frames of `width` channels, [frame][channel], through in place; `width` is a power of two up to `lanes`.
       [engine] */
    void (*run)(struct cascade *cascade, double *samples, uint32_t width, uint32_t frames);
};

#endif
