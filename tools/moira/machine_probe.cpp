#include "tools/moira/machine_probe.hpp"

#include "core/experts/huge_page_buffer.hpp"
#include "tools/moira/memory_probe.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <vector>

namespace moira {

namespace {

/// Well above the caches of today's servers' cores, and a quarter of a second on two of them.
constexpr std::uint64_t memory_buffer_bytes = std::uint64_t{512} << 20;
constexpr int memory_passes = 3;

/// More loads at once only add latency.
constexpr std::uint32_t threads_max = 4;

std::vector<expert_id> shuffled_experts(const model_shape& shape) {
    std::vector<expert_id> experts;
    for (std::int32_t layer = 0; layer < shape.layers; ++layer)
        if (shape.layer_is_moe[static_cast<std::size_t>(layer)])
            for (std::int32_t expert = 0; expert < shape.moe.experts; ++expert)
                experts.push_back({layer, expert});
    std::shuffle(experts.begin(), experts.end(), std::mt19937_64(1));
    return experts;
}

/// What the probing threads share.
struct load_race {
    using clock = std::chrono::steady_clock;

    load_race(slab_source& from, const std::vector<expert_id>& wanted, const std::function<bool()>& stop,
              clock::time_point until)
        : source(from), experts(wanted), interrupted(stop), end(until) {}

    slab_source& source;
    const std::vector<expert_id>& experts;
    const std::function<bool()>& interrupted;
    clock::time_point end;
    std::atomic<std::size_t> next{0}, loaded{0};
    std::mutex lock;
    std::optional<error> failure; // under lock

    void fail_with(error why) {
        const std::lock_guard held(lock);
        if (!failure)
            failure = std::move(why);
    }

    void run() {
        // Huge pages, as slots and the loaders' scratch are.
        const auto slab = huge_page_buffer::create(source.slab_bytes());
        const auto scratch = huge_page_buffer::create(source.scratch_bytes());
        if (!slab || !scratch)
            return fail_with((slab ? scratch : slab).error());
        for (auto index = next++; index < experts.size(); index = next++) {
            if (interrupted && interrupted())
                return fail_with({errc::cancelled, "interrupted"});
            auto done = source.load(experts[index], slab->bytes(), scratch->bytes());
            if (!done)
                return fail_with(done.error());
            ++loaded;
            if (clock::now() >= end)
                return;
        }
    }
};

} // namespace

result<disk_reading> probe_disk(slab_source& source, const model_shape& shape, std::uint32_t threads,
                                double seconds_max, const std::function<bool()>& interrupted) {
    const auto experts = shuffled_experts(shape);
    const auto begin = load_race::clock::now();
    load_race probe(
        source, experts, interrupted,
        begin + std::chrono::duration_cast<load_race::clock::duration>(std::chrono::duration<double>(seconds_max)));
    std::vector<std::thread> others;
    for (std::uint32_t i = 1; i < std::clamp(threads, 1u, threads_max); ++i)
        others.emplace_back([&probe] { probe.run(); });
    probe.run();
    for (auto& other : others)
        other.join();
    if (probe.failure)
        return tl::unexpected(*probe.failure);
    disk_reading found;
    found.elapsed_s = std::chrono::duration<double>(load_race::clock::now() - begin).count();
    found.bytes = probe.loaded * source.disk_bytes();
    if (found.elapsed_s > 0)
        found.gb_s = static_cast<double>(found.bytes) / 1e9 / found.elapsed_s;
    return found;
}

result<double> probe_memory(compute_pool& pool, std::uint64_t resident_bytes) {
    auto probe = memory_probe::create(pool, std::min(resident_bytes, memory_buffer_bytes));
    if (!probe)
        return tl::unexpected(probe.error());
    double best = 0;
    for (int pass = 0; pass < memory_passes; ++pass)
        best = std::max(best, probe->measure().gb_s);
    return best;
}

} // namespace moira
