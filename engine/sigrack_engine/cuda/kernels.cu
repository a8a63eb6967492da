/* kernels.cu - a streaming matrix convolver for many streams: what the GPU does with a block.

   The plan (plan.py) is put in front as macros. Words are those of the core's convolver (engine/core/fir_state.h): a stage has
   partitions of HOP * growth frames; partition k of its filter meets the segment that lies k back, in stages after the first counted
   from the last finished one; a voice is one phase of one output. A slot holds one filter; a stream runs through one, and while it
   fades through two.

   Each block: `forward` turns each input's new segments into spectra; `products` sums, for every stage, a block's share of its bins;
   `inverse` turns the first stage's sums into output and adds what the other stages have made before. Then, with the output gone:
   `ahead_1` and so on end the segments of later stages, and `tick` counts. Streams end these segments in different blocks, so that all
   blocks are alike. A long block has several segments, which are worked on together.

   Transforms are in C[x] / (x^N - i): two real segments, one in each part, give N bins of a negacyclic convolution of 2 N; the
   imaginary part of the product is the overlap-save output. Level l of a transform splits 2^l rings x^n - c, whose roots depend on the
   ring alone. Bins stay in the order in which the last pass leaves them: spectra are only multiplied. */

#define VOICES (OUTPUTS * PHASES)
#define RING (HISTORY * HOP)  /* frames of input that are kept */
#define PAD(n) ((n) + ((n) >> MOST_LEVELS)) /* in shared memory, against bank conflicts; MOST_LEVELS: of a transform in one pass */

constexpr int LOG2[] = LOG2_OF, GROWTH[] = GROWTH_OF, PARTITIONS[] = PARTITIONS_OF, SLOTS[] = SLOTS_OF, FROM[] = FROM_OF;
constexpr int MOST_GROWTH = GROWTH[STAGES - 1];
constexpr int BINS = 1 << LOG2[0];

typedef unsigned long long count_t;
typedef long long size_type;

/* Through which slots a stream runs. */
struct Route {
    size_type slot, incoming; /* incoming: -1: none */
    size_type fade_from;      /* output frame */
};

/* Where blocks come from or go to: strides in floats; block n is at n % depth. */
struct Ring {
    float *address;
    size_type stream, channel, block, depth;
};

/* All fields have 8 bytes: session.py has the same. */
struct Session {
    count_t block;   /* blocks that are over */
    count_t arrived; /* thread blocks of the block's last kernel that are through */
    size_type streams, slots;
    size_type limit;       /* input frames that there are: beyond is silence, and no output */
    size_type fade_frames; /* of output */
    volatile count_t *flag; /* in host memory: blocks whose output is there; or NULL */
    Ring in, out;
    const float2 *roots; /* [node]: of all rings, in the order of a heap, from 1 */
    Route *routes;       /* [stream] */
    size_type *owners;   /* [slot]: stream, or -1 */
    float *history;      /* [stream][input][RING] */
    float *planes;       /* [stream][voice][SEGMENTS * HOP]: output that is not interleaved yet */
    float *fetched;      /* [stream][input][SEGMENTS * HOP]: the block's input, if FETCHED */
    float2 *filters[4];  /* [slot][filter][phase][partition][bin] */
    float2 *signals[4];  /* [stream][input][SLOTS][bin] */
    float2 *sums[4];     /* [slot][voice][segment][bin] */
    float *made[4];      /* [slot][voice][HOP * growth] */
};

/* ---- transforms ---- */

/* From the root of the first of the rings that one has become to that of number `ring`. */
__device__ inline float2 turned(float2 root, int ring) {
    if (ring & 4)
        root = make_float2(root.x * 0.92387953251128674f - root.y * 0.38268343236508977f,
                           root.x * 0.38268343236508977f + root.y * 0.92387953251128674f);
    if (ring & 2)
        root = make_float2((root.x - root.y) * 0.70710678118654752f, (root.x + root.y) * 0.70710678118654752f);
    if (ring & 1)
        root = make_float2(-root.y, root.x);
    return root;
}

/* x^2n - c into x^n - root and x^n + root. */
__device__ inline void split(float2 &a, float2 &b, float2 root) {
    float x = fmaf(-root.y, b.y, fmaf(root.x, b.x, a.x)), y = fmaf(root.y, b.x, fmaf(root.x, b.y, a.y));
    b = make_float2(fmaf(2.0f, a.x, -x), fmaf(2.0f, a.y, -y));
    a = make_float2(x, y);
}

/* The reverse, times 2. */
__device__ inline void join(float2 &a, float2 &b, float2 root) {
    float x = a.x - b.x, y = a.y - b.y;
    a = make_float2(a.x + b.x, a.y + b.y);
    b = make_float2(fmaf(root.x, x, root.y * y), fmaf(root.x, y, -root.y * x));
}

template <int LEVELS> __device__ inline void split_all(float2 *v, const float2 *roots, int node) {
#pragma unroll
    for (int l = 0; l < LEVELS; l++) {
        float2 root = __ldg(roots + ((size_type)node << l));
#pragma unroll
        for (int k = 0; k < 1 << (LEVELS - 1); k++) {
            int half = 1 << (LEVELS - 1 - l), ring = k / half, at = ring * 2 * half + k % half;
            split(v[at], v[at + half], turned(root, ring));
        }
    }
}

template <int LEVELS> __device__ inline void join_all(float2 *v, const float2 *roots, int node) {
#pragma unroll
    for (int l = LEVELS - 1; l >= 0; l--) {
        float2 root = __ldg(roots + ((size_type)node << l));
#pragma unroll
        for (int k = 0; k < 1 << (LEVELS - 1); k++) {
            int half = 1 << (LEVELS - 1 - l), ring = k / half, at = ring * 2 * half + k % half;
            join(v[at], v[at + half], turned(root, ring));
        }
    }
}

/* One pass: the levels that are done in registers, and which points belong together. */
template <int SIZE, int LEVEL> struct Pass {
    static constexpr int left = SIZE - LEVEL, levels = left < MOST_LEVELS ? left : MOST_LEVELS, points = 1 << levels;
    static constexpr int span = 1 << (left - levels), groups = 1 << (SIZE - levels), next = LEVEL + levels;
    static constexpr bool first = LEVEL == 0, last = next == SIZE;
};

struct Nothing {
    __device__ void operator()(int, float2) const {}
};

/* `load` gives the coefficient of x^n, `store` takes a bin. The whole thread block takes part. What `load` could not do without making
   other loads wait, `loaded` does. */
template <int SIZE, int LEVEL = 0, typename Load, typename Store, typename Loaded = Nothing>
__device__ inline void transform(float2 *z, const float2 *roots, Load load, Store store, Loaded loaded = Loaded()) {
    typedef Pass<SIZE, LEVEL> P;
    for (int q = threadIdx.x; q < P::groups; q += blockDim.x) {
        int node = q / P::span, base = (node << P::left) + q % P::span;
        float2 v[P::points];
#pragma unroll
        for (int i = 0; i < P::points; i++)
            if constexpr (P::first)
                v[i] = load(base + i * P::span);
            else
                v[i] = z[PAD(base + i * P::span)];
        if constexpr (P::first)
#pragma unroll
            for (int i = 0; i < P::points; i++)
                loaded(base + i * P::span, v[i]);
        split_all<P::levels>(v, roots, (1 << LEVEL) + node);
#pragma unroll
        for (int i = 0; i < P::points; i++)
            if constexpr (P::last)
                store(i * P::groups + q, v[i]);
            else
                z[PAD(base + i * P::span)] = v[i];
    }
    if constexpr (!P::last) {
        __syncthreads();
        transform<SIZE, P::next>(z, roots, load, store);
    }
}

/* The reverse, times 2^SIZE: `load` gives bins, `value` what is to be stored of the coefficient of x^n, by `store`: it only reads. */
template <int SIZE, int LEVEL = 0, typename Load, typename Value, typename Store>
__device__ inline void restore(float2 *z, const float2 *roots, Load load, Value value, Store store) {
    typedef Pass<SIZE, LEVEL> P;
    if constexpr (!P::last) {
        restore<SIZE, P::next>(z, roots, load, value, store);
        __syncthreads();
    }
    for (int q = threadIdx.x; q < P::groups; q += blockDim.x) {
        int node = q / P::span, base = (node << P::left) + q % P::span;
        float2 v[P::points];
#pragma unroll
        for (int i = 0; i < P::points; i++)
            if constexpr (P::last)
                v[i] = load(i * P::groups + q);
            else
                v[i] = z[PAD(base + i * P::span)];
        join_all<P::levels>(v, roots, (1 << LEVEL) + node);
        if constexpr (P::first) {
            float result[P::points];
#pragma unroll
            for (int i = 0; i < P::points; i++)
                result[i] = value(base + i * P::span, v[i].y);
#pragma unroll
            for (int i = 0; i < P::points; i++)
                store(base + i * P::span, result[i]);
        } else {
#pragma unroll
            for (int i = 0; i < P::points; i++)
                z[PAD(base + i * P::span)] = v[i];
        }
    }
}

extern __shared__ float2 shared[];

/* ---- a block ---- */

/* What a stream's later stages go by: the number of a block, later for some streams than for others. */
__device__ inline count_t clock_of(size_type stream, count_t block) { return block + (stream & (MOST_GROWTH - 1)); }

/* Where a block of a stream's channel lies. */
__device__ inline float *block_of(const Ring &ring, size_type stream, size_type channel, count_t block) {
    return ring.address + stream * ring.stream + channel * ring.channel + block % ring.depth * ring.block;
}

#if FETCHED
/* Bring a block's input from the host once: its segments overlap, and the way is long. */
extern "C" __global__ void fetch(const Session *s) {
    size_type channel = blockIdx.y;
    const float *in = block_of(s->in, channel / INPUTS, channel % INPUTS, s->block);
    float *to = s->fetched + channel * SEGMENTS * HOP;
    for (int n = blockIdx.x * blockDim.x + threadIdx.x; n < SEGMENTS * HOP; n += gridDim.x * blockDim.x)
        to[n] = in[n];
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS_0) forward(const Session *s) {
    constexpr int slots = SLOTS[0];
    size_type t = blockIdx.x % SEGMENTS, channel = blockIdx.x / SEGMENTS; /* stream * INPUTS + input */
    count_t block = s->block, segment = block * SEGMENTS + t;
#if FETCHED
    const float *in = s->fetched + channel * SEGMENTS * HOP + t * HOP;
#else
    const float *in = block_of(s->in, channel / INPUTS, channel % INPUTS, block) + t * HOP;
#endif
    float *history = s->history + channel * RING; /* of each block the last segment */
    const float *before = t ? in - HOP : history + (block + HISTORY - 1) % HISTORY * HOP;
    float *kept = t == SEGMENTS - 1 ? history + block % HISTORY * HOP : NULL;
    size_type left = s->limit - (size_type)segment * HOP;
    float2 *spectrum = s->signals[0] + (channel * slots + segment % slots) * BINS;
    auto load = [=](int n) {
        float2 v = make_float2(0, 0);
        if (n >= BINS - HOP && n - (BINS - HOP) - HOP < left)
            v.x = before[n - (BINS - HOP)];
        if (n < HOP && n < left)
            v.y = in[n];
        return v;
    };
    auto loaded = [=](int n, float2 v) {
        if (kept && n < HOP)
            kept[n] = v.y;
    };
    transform<LOG2[0]>(shared, s->roots, load, [=](int bin, float2 v) { spectrum[bin] = v; }, loaded);
}

__device__ inline void multiply(float2 &sum, float2 a, float2 b) {
    sum.x = fmaf(a.x, b.x, fmaf(-a.y, b.y, sum.x));
    sum.y = fmaf(a.x, b.y, fmaf(a.y, b.x, sum.y));
}

/* Add up what the lanes of a column have; the result is in lane 0. */
__device__ inline void gather(float2 &sum) {
#if LANES > 1
    int lane = threadIdx.x / COLUMNS;
    shared[threadIdx.x] = sum;
    __syncthreads();
    for (int half = LANES / 2; half; half /= 2) {
        if (lane < half) {
            float2 other = shared[threadIdx.x + half * COLUMNS];
            shared[threadIdx.x] = sum = make_float2(sum.x + other.x, sum.y + other.y);
        }
        __syncthreads();
    }
#endif
}

/* Number of the filter between two channels; -1: zeros. */
__device__ constexpr int filter_of(int output, int input) {
    constexpr int filters[OUTPUTS][INPUTS] = FILTER_OF;
    return filters[output][input];
}

/* Partitions `from` to `to` - 1 of one bin: those that meet the segments in the slots `newest` - from and before it. */
template <int STAGE> __device__ inline void sum_straight(float2 *sums, const float2 *filter, const float2 *signal, int count) {
    constexpr int bins = 1 << LOG2[STAGE];
    constexpr size_type filter_stride = (size_type)PHASES * PARTITIONS[STAGE] * bins, signal_stride = (size_type)SLOTS[STAGE] * bins;
#pragma unroll 4
    for (int p = 0; p < count; p++) {
        float2 x[INPUTS];
#pragma unroll
        for (int i = 0; i < INPUTS; i++)
            x[i] = __ldg(signal + i * signal_stride);
#pragma unroll
        for (int o = 0; o < OUTPUTS; o++)
#pragma unroll
            for (int i = 0; i < INPUTS; i++)
                if (filter_of(o, i) >= 0)
                    multiply(sums[o], __ldg(filter + filter_of(o, i) * filter_stride), x[i]);
        filter += bins;
        signal -= bins;
    }
}

template <int STAGE> __device__ inline void sum_stage(const Session *s, size_type slot, int tile, int phase) {
    constexpr int bins = 1 << LOG2[STAGE], partitions = PARTITIONS[STAGE], slots = SLOTS[STAGE], growth = GROWTH[STAGE];
    size_type stream = s->owners[slot];
    if (stream < 0)
        return;
    int column = threadIdx.x % COLUMNS, lane = threadIdx.x / COLUMNS;
    count_t clock = STAGE ? clock_of(stream, s->block) : s->block, segments = STAGE ? clock / growth : s->block + 1;
    size_type bin = clock % growth * BINS + tile * COLUMNS + column;
    int newest = (segments + slots - 1) % slots;
    int from = partitions * lane / LANES, to = partitions * (lane + 1) / LANES;
    const float2 *filter = s->filters[STAGE] + (slot * FILTERS * PHASES + phase) * partitions * bins + bin;
    const float2 *signal = s->signals[STAGE] + stream * INPUTS * slots * bins + bin;
    float2 sums[OUTPUTS] = {};
    int wrap = from > newest + 1 ? from : to < newest + 1 ? to : newest + 1; /* from here on around the end */
    sum_straight<STAGE>(sums, filter + (size_type)from * bins, signal + (size_type)(newest - from) * bins, wrap - from);
    sum_straight<STAGE>(sums, filter + (size_type)wrap * bins, signal + (size_type)(newest + slots - wrap) * bins, to - wrap);
    float2 *result = s->sums[STAGE] + (slot * VOICES + phase) * bins + bin;
#pragma unroll
    for (int o = 0; o < OUTPUTS; o++) {
        gather(sums[o]);
        if (lane == 0)
            result[(size_type)o * PHASES * bins] = sums[o];
    }
}

/* A block of several segments, TILE of them at a time: a filter's bin is read once for all of them. Segment t's spectrum for partition
   p is at (t - p) % TILE of the window, where it takes the place of the one that is needed no more. */
__device__ inline void sum_tile(const Session *s, size_type slot, int tile, int phase, int first) {
    constexpr int partitions = PARTITIONS[0], slots = SLOTS[0];
    constexpr size_type filter_stride = (size_type)PHASES * partitions * BINS;
    size_type stream = s->owners[slot];
    if (stream < 0)
        return;
    int column = threadIdx.x % COLUMNS, lane = threadIdx.x / COLUMNS;
    int from = partitions * lane / LANES, to = partitions * (lane + 1) / LANES;
    size_type bin = tile * COLUMNS + column;
    const float2 *filter = s->filters[0] + (slot * FILTERS * PHASES + phase) * partitions * BINS + from * (size_type)BINS + bin;
    const float2 *signal = s->signals[0] + stream * INPUTS * slots * BINS + bin;
    int at = (s->block * SEGMENTS + first + slots - from % slots) % slots; /* slot of segment `first`, partition `from` */
    float2 sums[OUTPUTS][TILE] = {}, window[INPUTS][TILE];
#pragma unroll
    for (int t = 0; t < TILE; t++)
#pragma unroll
        for (int i = 0; i < INPUTS; i++)
            window[i][t] = __ldg(signal + ((size_type)i * slots + (at + t) % slots) * BINS);
    for (int p = from; p < to; p += TILE) {
#pragma unroll
        for (int k = 0; k < TILE; k++) {
            if (k % 4 == 0 && p + k >= to) /* not more often: loads should not wait for a decision */
                break;
#pragma unroll
            for (int o = 0; o < OUTPUTS; o++)
#pragma unroll
                for (int i = 0; i < INPUTS; i++)
                    if (filter_of(o, i) >= 0) {
                        float2 h = p + k < to ? __ldg(filter + filter_of(o, i) * filter_stride) : make_float2(0, 0);
#pragma unroll
                        for (int t = 0; t < TILE; t++)
                            multiply(sums[o][t], h, window[i][(t - k + TILE) % TILE]);
                    }
            filter += BINS;
            at = (at ? at : slots) - 1;
#pragma unroll
            for (int i = 0; i < INPUTS; i++)
                window[i][TILE - 1 - k] = __ldg(signal + ((size_type)i * slots + at) * BINS);
        }
    }
#pragma unroll
    for (int o = 0; o < OUTPUTS; o++)
#pragma unroll
        for (int t = 0; t < TILE; t++) {
            gather(sums[o][t]);
            if (lane == 0 && first + t < SEGMENTS)
                s->sums[0][((slot * VOICES + o * PHASES + phase) * SEGMENTS + first + t) * BINS + bin] = sums[o][t];
        }
}

extern "C" __global__ void __launch_bounds__(COLUMNS * LANES) products(const Session *s) {
    constexpr int tiles = BINS / COLUMNS;
    size_type slot = blockIdx.x / tiles;
    int tile = blockIdx.x % tiles, phase = blockIdx.y % PHASES, stage = blockIdx.y / PHASES;
#if SEGMENTS > 1
    sum_tile(s, slot, tile, phase, blockIdx.z * TILE);
#else
    if (stage == 0)
        sum_stage<0>(s, slot, tile, phase);
#if STAGES > 1
    if (stage == 1)
        sum_stage<1>(s, slot, tile, phase);
#endif
#if STAGES > 2
    if (stage == 2)
        sum_stage<2>(s, slot, tile, phase);
#endif
#if STAGES > 3
    if (stage == 3)
        sum_stage<3>(s, slot, tile, phase);
#endif
#endif
}

/* What the stages after the first have made for frame n of a block. */
template <int STAGE = 1> __device__ inline float made_before(const Session *s, size_type plane, count_t clock, int n) {
    if constexpr (STAGE < STAGES) {
        constexpr int growth = GROWTH[STAGE];
        float made = s->made[STAGE][(plane * growth + clock % growth) * HOP + n];
        return made + made_before<STAGE + 1>(s, plane, clock, n);
    }
    return 0;
}

/* Tell the host that a block's output is there, once all of its last kernel is through. */
__device__ inline void announce(Session *s) {
    if (!s->flag)
        return;
    __syncthreads();
    if (threadIdx.x)
        return;
    __threadfence_system();
    if (atomicAdd(&s->arrived, (count_t)1) == (count_t)gridDim.x * gridDim.y - 1) {
        s->arrived = 0;
        __threadfence_system();
        *s->flag = s->block + 1;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS_0) inverse(Session *s) {
    float *faded = (float *)(shared + PAD(BINS)); /* what the incoming filter gives */
    size_type t = blockIdx.x % SEGMENTS, voice = blockIdx.x / SEGMENTS % VOICES, stream = blockIdx.x / SEGMENTS / VOICES;
    Route route = s->routes[stream];
    count_t block = s->block, clock = clock_of(stream, block);
    size_type frame = (block * SEGMENTS + t) * HOP, left = s->limit - frame; /* of input */
    size_type faded_for = frame * PHASES + voice % PHASES - route.fade_from; /* at its first frame */
    bool fades = route.incoming >= 0 && faded_for + (size_type)HOP * PHASES > 0;
    float step = 1.0f / s->fade_frames;
#if PHASES > 1
    float *out = s->planes + (stream * VOICES + voice) * SEGMENTS * HOP + t * HOP;
#else
    float *out = block_of(s->out, stream, voice, block) + t * HOP;
#endif
    for (int run = fades ? 0 : 1; run < 2; run++) {
        size_type plane = (run ? route.slot : route.incoming) * VOICES + voice;
        const float2 *sums = s->sums[0] + (plane * SEGMENTS + t) * BINS;
        auto value = [=](int n, float sum) {
            if (n >= HOP)
                return 0.0f;
            float made = sum + made_before(s, plane, clock, n);
            size_type passed = faded_for + (size_type)n * PHASES;
            if (run == 0 || !fades || passed <= 0)
                return made;
            float gain = passed < s->fade_frames ? passed * step : 1.0f;
            return (1.0f - gain) * made + gain * faded[n];
        };
        auto store = [=](int n, float made) {
            if (n < HOP && n < left)
                (run ? out : faded)[n] = made;
        };
        restore<LOG2[0]>(shared, s->roots, [=](int bin) { return sums[bin]; }, value, store);
        __syncthreads();
    }
#if PHASES == 1
    announce(s);
#endif
}

#if PHASES > 1
/* WIDTH output frames with each thread at once. */
extern "C" __global__ void interleave(Session *s) {
    constexpr int frames = SEGMENTS * HOP * PHASES;
    size_type channel = blockIdx.x, stream = channel / OUTPUTS; /* stream * OUTPUTS + output */
    const float *planes = s->planes + channel * frames;
    float *out = block_of(s->out, stream, channel % OUTPUTS, s->block);
    size_type left = (s->limit - (size_type)s->block * SEGMENTS * HOP) * PHASES, end = left < frames ? left : frames;
    for (int n = (blockIdx.y * blockDim.x + threadIdx.x) * WIDTH; n < end; n += gridDim.y * blockDim.x * WIDTH) {
        const float *from = planes + (size_type)(n % PHASES) * (SEGMENTS * HOP) + n / PHASES;
#if WIDTH == 4
        constexpr int plane = SEGMENTS * HOP;
        /* In one piece, which the compiler may not split: the host's bus is slow with small ones. */
        __stcs((float4 *)(out + n), make_float4(from[0], from[plane], from[2 * plane], from[3 * plane]));
#else
        out[n] = *from;
#endif
    }
    announce(s);
}
#endif

/* ---- segments of later stages ---- */

/* For the streams whose segment ends with this block: the first thread blocks turn an input's segment into its spectrum, the others the
   sums for a voice into what is played from the next block on. */
template <int STAGE> __device__ inline void end_segment(const Session *s) {
    constexpr int bins = 1 << LOG2[STAGE], growth = GROWTH[STAGE], hop = HOP * growth, slots = SLOTS[STAGE];
    count_t next = s->block + 1;
    size_type job = blockIdx.x, channels = (s->streams + growth - 1) / growth * INPUTS;
    size_type member = job < channels ? job / INPUTS : (job - channels) / VOICES;
    size_type stream = member * growth + (growth - next % growth) % growth;
    if (stream >= s->streams)
        return;
    if (job < channels) {
        int input = job % INPUTS;
        const float *history = s->history + (stream * INPUTS + input) * RING;
        int start = (next + HISTORY - 2 * growth) % HISTORY * HOP;
        count_t segment = clock_of(stream, next) / growth - 1;
        float2 *spectrum = s->signals[STAGE] + ((stream * INPUTS + input) * slots + segment % slots) * bins;
        auto load = [=](int n) {
            int before = n - (bins - hop) + start, now = n + hop + start;
            return make_float2(n >= bins - hop ? history[before % RING] : 0, n < hop ? history[now % RING] : 0);
        };
        transform<LOG2[STAGE]>(shared, s->roots, load, [=](int bin, float2 v) { spectrum[bin] = v; });
        return;
    }
    int voice = (job - channels) % VOICES;
    Route route = s->routes[stream];
    for (int run = 0; run < 2; run++) {
        size_type slot = run ? route.incoming : route.slot;
        if (slot < 0)
            break;
        const float2 *sums = s->sums[STAGE] + (slot * VOICES + voice) * bins;
        float *made = s->made[STAGE] + (slot * VOICES + voice) * hop;
        auto store = [=](int n, float sum) {
            if (n < hop)
                made[n] = sum;
        };
        restore<LOG2[STAGE]>(shared, s->roots, [=](int bin) { return sums[bin]; }, [](int, float sum) { return sum; }, store);
        __syncthreads();
    }
}

#if STAGES > 1
extern "C" __global__ void __launch_bounds__(THREADS_1) ahead_1(const Session *s) { end_segment<1>(s); }
#endif
#if STAGES > 2
extern "C" __global__ void __launch_bounds__(THREADS_2) ahead_2(const Session *s) { end_segment<2>(s); }
#endif
#if STAGES > 3
extern "C" __global__ void __launch_bounds__(THREADS_3) ahead_3(const Session *s) { end_segment<3>(s); }
#endif

extern "C" __global__ void tick(Session *s) { s->block++; }

/* ---- filters ---- */

/* Turn one partition of one phase of a filter into its spectrum. `taps`: [filter][count], at the output's rate. */
template <int STAGE> __device__ inline void prepare(const Session *s, size_type slot, const float *taps, size_type count) {
    constexpr int bins = 1 << LOG2[STAGE], hop = HOP * GROWTH[STAGE], partitions = PARTITIONS[STAGE];
    size_type job = blockIdx.x, filter = job / partitions / PHASES;
    size_type first = (FROM[STAGE] + job % partitions * (size_type)hop) * PHASES + job / partitions % PHASES;
    const float *path = taps + filter * count;
    float2 *spectrum = s->filters[STAGE] + (slot * FILTERS * PHASES * partitions + job) * bins;
    auto load = [=](int n) {
        size_type tap = first + (size_type)n * PHASES;
        return make_float2(n < hop && tap < count ? path[tap] * (1.0f / bins) : 0, 0);
    };
    transform<LOG2[STAGE]>(shared, s->roots, load, [=](int bin, float2 v) { spectrum[bin] = v; });
}

extern "C" __global__ void __launch_bounds__(THREADS_0) prepare_0(const Session *s, size_type slot, const float *taps, size_type count) {
    prepare<0>(s, slot, taps, count);
}
#if STAGES > 1
extern "C" __global__ void __launch_bounds__(THREADS_1) prepare_1(const Session *s, size_type slot, const float *taps, size_type count) {
    prepare<1>(s, slot, taps, count);
}
#endif
#if STAGES > 2
extern "C" __global__ void __launch_bounds__(THREADS_2) prepare_2(const Session *s, size_type slot, const float *taps, size_type count) {
    prepare<2>(s, slot, taps, count);
}
#endif
#if STAGES > 3
extern "C" __global__ void __launch_bounds__(THREADS_3) prepare_3(const Session *s, size_type slot, const float *taps, size_type count) {
    prepare<3>(s, slot, taps, count);
}
#endif

/* Let a stream run through `slot`, and from `fade_from` on over to `incoming`, if that is not -1; `freed`, if not -1, rests. */
extern "C" __global__ void assign(Session *s, size_type stream, size_type slot, size_type incoming, size_type fade_from, size_type freed) {
    s->routes[stream] = Route{slot, incoming, fade_from};
    s->owners[slot] = stream;
    if (incoming >= 0)
        s->owners[incoming] = stream;
    if (freed >= 0)
        s->owners[freed] = -1;
}
