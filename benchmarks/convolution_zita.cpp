// convolution_zita.cpp - zita-convolver, if it is installed, in the form in which benchmarks/convolution.py calls convolvers.
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include <zita-convolver.h>

namespace {

constexpr uint32_t CHANNELS = 2;
constexpr useconds_t START_US = 300000; // a level whose thread does not run yet is left out of the output

struct Shim {
    Convproc convolver;
    uint32_t block;
    const float *const *in;
    float *const *out;
};

// Filters are [output * CHANNELS + input]; NULL: none; one that is the first one again shares its spectra.
int load(Convproc &convolver, const float *const *filters, uint32_t taps) {
    for (uint32_t path = 0; path < CHANNELS * CHANNELS; path++) {
        uint32_t in = path % CHANNELS, out = path / CHANNELS;
        if (!filters[path])
            continue;
        int failed = path && filters[path] == filters[0]
                         ? convolver.impdata_link(0, 0, in, out)
                         : convolver.impdata_create(in, out, 1, const_cast<float *>(filters[path]), 0, int32_t(taps));
        if (failed)
            return failed;
    }
    return 0;
}

} // namespace

extern "C" {

int bench_zita_version(void) { return zita_convolver_major_version() * 100 + zita_convolver_minor_version(); }

void bench_zita_free(void *self) {
    Shim *shim = static_cast<Shim *>(self);
    shim->convolver.stop_process();
    shim->convolver.cleanup();
    delete shim;
}

// Partitions from `block` to the most that zita allows. NULL: zita refuses.
void *bench_zita_new(uint32_t taps, uint32_t block, float density, const float *const *filters, const float *const *in,
                     float *const *out) {
    Shim *shim = new Shim{{}, block, in, out};
    shim->convolver.set_options(Convproc::OPT_FFTW_MEASURE | Convproc::OPT_VECTOR_MODE);
    if (!shim->convolver.configure(CHANNELS, CHANNELS, taps, block, block, Convproc::MAXPART, density) &&
        !load(shim->convolver, filters, taps) && !shim->convolver.start_process(0, SCHED_OTHER)) {
        usleep(START_US);
        return shim;
    }
    bench_zita_free(shim);
    return nullptr;
}

// Not 0: a level was late.
int bench_zita_process(void *self) {
    Shim *shim = static_cast<Shim *>(self);
    for (uint32_t c = 0; c < CHANNELS; c++)
        memcpy(shim->convolver.inpdata(c), shim->in[c], shim->block * sizeof(float));
    int late = shim->convolver.process(true);
    for (uint32_t c = 0; c < CHANNELS; c++)
        memcpy(shim->out[c], shim->convolver.outdata(c), shim->block * sizeof(float));
    return late;
}
}
