/* fir_plan.h - which stages a convolver has: a model of what each costs, and the cheapest choice by it. */
#ifndef SIGRACK_FIR_PLAN_H
#define SIGRACK_FIR_PLAN_H

#include "fir.h"

struct fir_plan {
    uint32_t count;
    struct core_fir_stage stage[FIR_MAX_STAGES];
    double ns; /* per input frame, all stages */
};

/* Plan for `spec` with `paths` filters that are not zero, `used` inputs and outputs of them, and `distinct` different ones. With
   spec->partitions the plan has those; count 0 when they are not what they should be. The same numbers give the same plan on any
   machine, so a rendered file does not depend on where it was rendered. [control] */
struct fir_plan fir_plan_for(const struct core_fir_spec *spec, uint32_t paths, uint32_t distinct, uint32_t used_inputs,
                             uint32_t used_outputs);

/* The work per input frame, in the nanoseconds of the model, of the convolver that would be made for `spec`, whose taps are not looked
   at; the other numbers as above. [any] */
CORE_API double core_fir_model(const struct core_fir_spec *spec, uint32_t paths, uint32_t distinct, uint32_t used_inputs,
                               uint32_t used_outputs);

#endif
