// Hosts as they are written: the engine is given a pointer to an object of the host. naive swap|late N
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "sigrack_signal.h"

extern "C" long engine_calls(void);

namespace {

struct Listener {
    virtual void on_factor(double value) = 0;
    virtual ~Listener() { usleep(50); }
};

struct Strategy : Listener {
    double *sums = new double[8]();
    void on_factor(double value) override { sums[static_cast<int>(value) & 7] += value; }
    ~Strategy() override { delete[] sums; }
};

void forward(const char *, long long, const double *values, int, void *user) {
    static_cast<Listener *>(user)->on_factor(values[0]);
}

void wait_for_calls(long more) {
    for (long end = engine_calls() + more; engine_calls() < end;)
        usleep(100);
}

// The main thread replaces the strategy while the engine's thread calls it.
int swap(long swaps) {
    void *engine = signal_create("{}");
    Listener *strategy = new Strategy;
    signal_register_callback(engine, forward, strategy);
    for (long i = 0; i < swaps; i++) {
        delete strategy;
        strategy = new Strategy;
        signal_register_callback(engine, forward, strategy);
    }
    signal_destroy(engine);
    std::printf("survived\n");
    return 0;
}

struct Sink {
    double last[3];
};

void keep(const char *, long long, const double *values, int count, void *user) {
    std::memcpy(static_cast<Sink *>(user)->last, values, static_cast<size_t>(count) * sizeof *values);
}

// The engine calls on after its destruction. The sink is poisoned, not really freed, so that what is written there shows.
int late(long calls) {
    void *engine = signal_create("{\"stops\": 0}");
    Sink poison, sink;
    std::memset(&poison, 0xDD, sizeof poison);
    signal_register_callback(engine, keep, &sink);
    wait_for_calls(1);
    signal_destroy(engine);
    std::memcpy(&sink, &poison, sizeof sink);
    wait_for_calls(calls);
    std::printf("%s\n", std::memcmp(&sink, &poison, sizeof sink) ? "spoiled" : "intact");
    std::fflush(stdout);
    _exit(0);
}

} // namespace

int main(int, char **arguments) {
    long count = std::atol(arguments[2]);
    return std::strcmp(arguments[1], "swap") ? late(count) : swap(count);
}
