"""A native plugin in C, with places where a test can make it wrong."""

__all__ = ["STATEFUL", "plugin_source"]

_PLUGIN = """\
#include <stdio.h>
#include <stdlib.h>

#include "sigrack.h"

enum {{ FACTOR, OFFSET }};

struct param {{
    struct sigrack_param now;
    {later}
}};
static const struct param params[] = {{
    {{{{sizeof(struct sigrack_param) + EXTRA, 0, "factor", "Factor", "", -2.0, 2.0, 1.0}}{tail}}},
    {{{{sizeof(struct sigrack_param) + EXTRA, 0, "offset", "Offset", "V", 0.0, 1.0, 0.0}}{tail}}},
}};
static const struct sigrack_factor factors[] = {{
    {{sizeof(struct sigrack_factor), 0, "first", "V"}},
}};

struct scale {{
    struct sigrack_host host;
    double values[2];
    uint32_t channels;
}};

static void *create(const struct sigrack_host *host, const char *config, char *error, uint32_t error_size) {{
    (void)config;
    {create}
    struct scale *scale = calloc(1, sizeof *scale);
    if (!scale)
        snprintf(error, error_size, "out of memory");
    else
        scale->host = *host;
    return scale;
}}

static int activate(void *self, const struct sigrack_setup *setup, struct sigrack_contract *contract) {{
    struct scale *scale = self;
    scale->values[FACTOR] = setup->values[FACTOR];
    scale->values[OFFSET] = setup->values[OFFSET];
    scale->channels = setup->channels;
    contract->latency_frames = 0;
    {activate}
    return 0;
}}

static int process(void *self, const struct sigrack_block *block) {{
    struct scale *scale = self;
    for (uint32_t i = 0; i < block->event_count; i++)
        scale->values[block->events[i].param] = block->events[i].value;
    for (uint32_t c = 0; c < block->channels; c++)
        for (uint32_t i = 0; i < block->frames; i++)
            block->out[c][i] = block->in[c][i] * (float)scale->values[FACTOR] + (float)scale->values[OFFSET] + CONSTANT;
    double first = block->in[0][0];
    scale->host.post(scale->host.cookie, 0, block->frame, &first, 1);
    return 0;
}}

static const struct {{
    struct sigrack_plugin plugin;
    {more}
}} all = {{
    .plugin = {{
        .size = {size},
        .abi = {abi},
        .id = "{id}",
        .name = "Scale",
        .version = "2.5",
        .description = "Multiplies and adds.",
        .params = (const struct sigrack_param *)params,
        .param_count = 2,
        .factors = factors,
        .factor_count = 1,
        .create = create,
        .activate = activate,
        .process = {process},
        .destroy = free,
    }},
}};

const struct sigrack_plugin *sigrack_plugin_entry(void) {{ return {entry}; }}
"""


def plugin_source(
    *,
    id: str = "scale",  # noqa: A002 - the struct's field
    constant: float = 0.0,
    newer: bool = False,
    size: str = "sizeof all",
    abi: str = "SIGRACK_ABI",
    entry: str = "&all.plugin",
    create: str = "",
    activate: str = "",
    process: str = "process",
) -> str:
    """Return the source of a plugin that computes `in * factor + offset + constant` and posts the first sample of each block.

    `newer` makes its structs longer than this header's, as a later version's would be.
    """
    source = _PLUGIN.format(
        later="double later[3];" if newer else "",
        tail=", {1.0, 2.0, 3.0}" if newer else "",
        more="double later[5];" if newer else "",
        size=size,
        abi=abi,
        entry=entry,
        create=create,
        activate=activate,
        process=process,
        id=id,
    )
    extra = "3 * sizeof(double)" if newer else "0"
    return f"#define EXTRA {extra}\n#define CONSTANT {constant}f\n{source}"


STATEFUL = r"""
#include <stdlib.h>
#include <string.h>
#include <sigrack.h>
struct box { const struct sigrack_host *host; unsigned lives; };
static void *create(const struct sigrack_host *host, const char *c, char *e, uint32_t n) {
    (void)c, (void)e, (void)n;
    struct box *box = calloc(1, sizeof *box);
    box->host = host;
    return box;
}
static int activate(void *self, const struct sigrack_setup *s, struct sigrack_contract *c) {
    (void)self, (void)s, (void)c;
    return 0;
}
static int process(void *self, const struct sigrack_block *block) {
    struct box *box = self;
    double lives = box->lives;
    for (uint32_t i = 0; i < block->channels; i++)
        memcpy(block->out[i], block->in[i], block->frames * sizeof(float));
    box->host->post(box->host->cookie, 0, block->frame, &lives, 1);
    return 0;
}
static uint32_t save(void *self, void *data, uint32_t size) {
    unsigned lives = ((struct box *)self)->lives + 1;
    if (size >= sizeof lives)
        memcpy(data, &lives, sizeof lives);
    return sizeof lives;
}
static int load(void *self, const char *version, const void *data, uint32_t size, char *error, uint32_t n) {
    (void)error, (void)n;
    if (strcmp(version, "7") || size != sizeof(unsigned))
        return 1;
    memcpy(&((struct box *)self)->lives, data, size);
    return 0;
}
const struct sigrack_plugin *sigrack_plugin_entry(void) {
    static const struct sigrack_factor factor = {.size = sizeof factor, .symbol = "lives", .unit = ""};
    static const struct sigrack_plugin plugin = {.size = sizeof plugin, .abi = SIGRACK_ABI, .id = "box", .version = "7",
        .factors = &factor, .factor_count = 1, .create = create, .activate = activate, .process = process, .destroy = free,
        .state_save = save, .state_load = load};
    return &plugin;
}
"""
"""Counts its lives: each that saves a state hands over one more. Posts them with each block."""
