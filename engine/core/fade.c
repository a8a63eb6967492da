#include "fade.h"

#include <math.h>
#include <string.h>

#include "kernels.h"

void fade_to(struct fade *fade, float to, uint32_t frames) {
    fade->to = to;
    fade->left = frames;
    if (frames)
        fade->step = (to - fade->gain) / (float)frames;
    else
        fade->gain = to;
}

void fade_run(struct fade *fade, float *const *planes, uint32_t channels, uint32_t from, uint32_t frames) {
    uint32_t moving = fade->left < frames ? fade->left : frames;
    fade->left -= moving;
    /* The last frame of a fade has the gain it goes to, whatever the steps add up to: 1 makes nothing louder. */
    uint32_t ramped = fade->left ? moving : moving - !!moving;
    for (uint32_t c = 0; ramped && c < channels; c++)
        kernels_chosen()->ramp(planes[c] + from, ramped, fade->gain, fade->step);
    fade->gain = fade->left ? fade->gain + (float)moving * fade->step : fade->to;
    for (uint32_t c = 0; fade->gain == 0.0f && c < channels; c++)
        memset(planes[c] + from + ramped, 0, (frames - ramped) * sizeof(float));
}

void residue_begin(struct residue *residue, const float *values, uint32_t channels, uint32_t frames) {
    for (uint32_t c = 0; c < channels; c++)
        residue->values[c] = isfinite(values[c]) ? values[c] : 0.0f;
    residue->frames = residue->left = frames;
}

void residue_add(struct residue *residue, float *const *planes, uint32_t channels, uint32_t from, uint32_t frames) {
    uint32_t sounding = residue->left < frames ? residue->left : frames;
    for (uint32_t c = 0; c < channels; c++)
        for (uint32_t i = 0; i < sounding; i++)
            planes[c][from + i] += residue->values[c] * ((float)(residue->left - 1 - i) / (float)residue->frames);
    residue->left -= sounding;
}
