#include "kernels.h"

#include "core.h"

static const struct kernels *chosen;

#if defined(__x86_64__)
#include <stdlib.h>

extern const struct kernels kernels_v2, kernels_v3, kernels_v4;

static const struct kernels *pick(void) {
    __builtin_cpu_init();
    const char *wish = getenv("SIGRACK_LEVEL");
    int top = wish ? atoi(wish) : 4;
    if (top >= 4 && __builtin_cpu_supports("x86-64-v4"))
        return &kernels_v4;
    if (top >= 3 && __builtin_cpu_supports("x86-64-v3"))
        return &kernels_v3;
    return &kernels_v2;
}
#else
extern const struct kernels kernels_base;

static const struct kernels *pick(void) { return &kernels_base; }
#endif

__attribute__((constructor)) static void choose(void) { chosen = pick(); }

const struct kernels *kernels_chosen(void) { return chosen; }

uint32_t core_abi(void) { return CORE_ABI; }

const char *core_level(void) { return chosen->level; }
