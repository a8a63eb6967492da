// A signal engine as they are written: threads of its own that call without a break, through noexcept frames.
// Config: threads, pause_us between calls, previous = 1: go on calling for the one registered before, too,
// stops = 0: signal_destroy leaves the threads running.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "sigrack_signal.h"

namespace {

std::atomic<long> calls{0};

long option(const char *config, const char *name, long otherwise) {
    const char *found = std::strstr(config, name);
    return found ? std::strtol(std::strchr(found, ':') + 1, nullptr, 10) : otherwise;
}

class Engine {
public:
    explicit Engine(const char *config)
        : stops(option(config, "\"stops\"", 1)), previous_too(option(config, "\"previous\"", 0)),
          pause_us(option(config, "\"pause_us\"", 0)), thread_count(option(config, "\"threads\"", 1)) {}

    // The first registration starts the threads.
    void listen(signal_callback callback_now, void *user_now) {
        previous = threads.empty() ? user_now : user.load();
        user = user_now;
        callback = callback_now;
        while (static_cast<long>(threads.size()) < thread_count)
            threads.emplace_back([this] { run(); });
    }

    void stop() {
        over = true;
        for (auto &thread : threads)
            thread.join();
    }

    const bool stops;

private:
    void call(void *whom) noexcept {
        const double values[] = {1.0, 2.0, 3.0};
        callback.load()("FACTOR", calls.load(), values, 3, whom);
        calls++;
    }

    void run() noexcept {
        do {
            call(user);
            if (previous_too)
                call(previous);
            if (pause_us)
                std::this_thread::sleep_for(std::chrono::microseconds(pause_us));
        } while (!over);
    }

    const bool previous_too;
    const long pause_us, thread_count;
    std::atomic<bool> over{false};
    std::atomic<signal_callback> callback{nullptr};
    std::atomic<void *> user{nullptr}, previous{nullptr};
    std::vector<std::thread> threads;
};

} // namespace

extern "C" {

void *signal_create(const char *config) { return new Engine(config); }

int signal_register_callback(void *handle, signal_callback callback, void *user) {
    static_cast<Engine *>(handle)->listen(callback, user);
    return 0;
}

void signal_on_data(void *, int, const void *) {}

void signal_destroy(void *handle) {
    auto *engine = static_cast<Engine *>(handle);
    if (!engine->stops)
        return;
    engine->stop();
    delete engine;
}

// Calls of all engines that have returned.
SIGNAL_EXPORT long engine_calls(void) { return calls; }

} // extern "C"
