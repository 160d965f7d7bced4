#include "tools/moira/disk_probe.hpp"

#include "core/base/thread_time.hpp"
#include "core/experts/checkpoint_slab_source.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>

namespace moira {

namespace {

std::vector<expert_id> shuffled_experts(const model_shape& shape) {
    std::vector<expert_id> experts;
    for (std::int32_t layer = 0; layer < shape.layers; ++layer)
        if (shape.layer_is_moe[static_cast<std::size_t>(layer)])
            for (std::int32_t expert = 0; expert < shape.moe.experts; ++expert)
                experts.push_back({layer, expert});
    std::shuffle(experts.begin(), experts.end(), std::mt19937_64(1));
    return experts;
}

result<huge_page_buffer> touched(std::uint64_t bytes) {
    auto buffer = huge_page_buffer::create(std::max<std::uint64_t>(bytes, 1));
    if (buffer)
        std::memset(buffer->bytes().data(), 1, buffer->bytes().size());
    return buffer;
}

} // namespace

/// What the threads of one measurement share.
struct disk_probe::race {
    using clock = std::chrono::steady_clock;

    slab_source& source;
    probed_way way;
    const std::vector<expert_id>& experts;
    std::size_t first;
    const std::function<bool()>& interrupted;
    clock::time_point end;
    std::atomic<std::size_t> taken{0}, loaded{0};
    std::mutex lock = {};
    double read_cpu_s = 0, pack_cpu_s = 0; // under lock
    std::optional<error> failure = {};     // under lock

    result<void> bring(expert_id expert, const loader& into) {
        const double begin_s = thread_cpu_s();
        const bool apart = source.reads_apart();
        auto done = apart ? source.read(expert, into.scratch.bytes())
                          : source.load(expert, into.slab.bytes(), into.scratch.bytes());
        const double read_s = thread_cpu_s() - begin_s;
        double pack_s = 0;
        if (done && apart && way == probed_way::read_and_pack) {
            done = source.pack(expert, into.slab.bytes(), into.scratch.bytes());
            pack_s = thread_cpu_s() - begin_s - read_s;
        }
        const std::lock_guard held(lock);
        read_cpu_s += read_s;
        pack_cpu_s += pack_s;
        return done;
    }

    void run(const loader& into) {
        for (auto index = taken++; index < experts.size(); index = taken++) {
            auto done = interrupted && interrupted() ? fail(errc::cancelled, "interrupted")
                                                     : bring(experts[(first + index) % experts.size()], into);
            if (!done) {
                const std::lock_guard held(lock);
                if (!failure)
                    failure = std::move(done.error());
                return;
            }
            ++loaded;
            if (clock::now() >= end)
                return;
        }
    }
};

result<disk_probe> disk_probe::create(slab_source& source, const model_shape& shape, std::uint32_t threads,
                                      probed_way way) {
    disk_probe made;
    made.source_ = &source;
    made.way_ = way;
    made.experts_ = shuffled_experts(shape);
    if (made.experts_.empty())
        return fail(errc::invalid_argument, "the model has no experts whose reading could be measured");
    const bool apart = source.reads_apart();
    for (std::uint32_t index = 0; index < std::max(threads, 1U); ++index) {
        auto slab = touched(apart && way == probed_way::read ? 0 : source.slab_bytes());
        auto scratch = touched(source.scratch_bytes());
        if (!slab || !scratch)
            return tl::unexpected((slab ? scratch : slab).error());
        made.loaders_.push_back({std::move(*slab), std::move(*scratch)});
    }
    return made;
}

bool disk_probe::direct() const {
    return !source_->description().starts_with("buffered");
}

result<disk_reading> disk_probe::measure(double seconds_max, const std::function<bool()>& interrupted) {
    const auto begin = race::clock::now();
    const auto duration = std::chrono::duration_cast<race::clock::duration>(std::chrono::duration<double>(seconds_max));
    race shared{*source_, way_, experts_, next_, interrupted, begin + duration};
    std::vector<std::thread> others;
    for (std::size_t index = 1; index < loaders_.size(); ++index)
        others.emplace_back([&, index] { shared.run(loaders_[index]); });
    shared.run(loaders_.front());
    for (auto& other : others)
        other.join();
    if (shared.failure)
        return tl::unexpected(*shared.failure);
    const std::size_t loaded = shared.loaded;
    next_ = (next_ + loaded) % experts_.size();
    disk_reading found;
    found.elapsed_s = std::chrono::duration<double>(race::clock::now() - begin).count();
    found.bytes = loaded * source_->disk_bytes();
    found.gb_s = static_cast<double>(found.bytes) / 1e9 / found.elapsed_s;
    found.read_cpu_s = shared.read_cpu_s / static_cast<double>(loaded);
    found.pack_cpu_s = shared.pack_cpu_s / static_cast<double>(loaded);
    return found;
}

result<std::unique_ptr<slab_source>> open_direct_experts(const checkpoint& model, const plugin_host& plugins,
                                                         const settings& all) {
    return make_checkpoint_slab_source(model, weight_names(model.shape()), plugins.memory_provider(), expert_io::direct,
                                       all.experts.precision == "fp8" ? expert_precision::fp8 : expert_precision::keep);
}

} // namespace moira
