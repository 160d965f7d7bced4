#pragma once

#include "core/experts/expert_store.hpp"
#include "core/experts/slab_source.hpp"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace moira {

/// Slabs whose every word says which expert they are, with scripted delay, failures and a gate that holds loads back.
class fake_slab_source final : public slab_source {
public:
    explicit fake_slab_source(std::uint64_t bytes = 256) : bytes_(bytes) {}

    static std::uint64_t word_of(expert_id expert) {
        return 0x9e3779b97f4a7c15ULL *
               (static_cast<std::uint64_t>(expert.layer) * 4096 + static_cast<std::uint64_t>(expert.expert) + 1);
    }

    /// Whether a table entry leads to this expert's slab, complete.
    bool shows(const moira_expert_entry& entry, expert_id expert) const {
        if (entry.address == 0)
            return false;
        const auto* words = reinterpret_cast<const std::uint64_t*>(entry.address);
        for (std::size_t index = 0; index < bytes_ / 8; ++index)
            if (words[index] != word_of(expert))
                return false;
        return true;
    }

    std::uint64_t slab_bytes() const noexcept override { return bytes_; }
    std::uint64_t scratch_bytes() const noexcept override { return 4096; }
    std::uint64_t disk_bytes() const noexcept override { return 100; }

    result<void> load(expert_id expert, std::span<std::byte> slab, std::span<std::byte> scratch) override {
        {
            std::unique_lock held(lock_);
            ++attempts_[expert];
            opened_.wait(held, [&] { return open_; });
            if (int& left = failures_left_[expert]; left > 0) {
                --left;
                return fail(failure_, "scripted failure");
            }
            if (throws_)
                throw std::runtime_error("scripted exception");
        }
        if (delay_.count() > 0)
            std::this_thread::sleep_for(delay_);
        if (scratch.size() < 4096 || reinterpret_cast<std::uintptr_t>(scratch.data()) % 4096 != 0)
            return fail(errc::internal, "scratch is not as promised");
        const std::uint64_t word = word_of(expert);
        for (std::size_t index = 0; index < slab.size() / 8; ++index)
            std::memcpy(slab.data() + index * 8, &word, 8);
        std::memset(scratch.data(), static_cast<int>(expert.expert), 64); // two loads that share scratch: a race
        return {};
    }

    void fail_next(expert_id expert, int times, errc code = errc::io_error) {
        const std::lock_guard held(lock_);
        failures_left_[expert] = times;
        failure_ = code;
    }
    void throw_always(bool on) {
        const std::lock_guard held(lock_);
        throws_ = on;
    }
    void set_gate(bool open) {
        const std::lock_guard held(lock_);
        open_ = open;
        opened_.notify_all();
    }
    void set_delay(std::chrono::microseconds delay) { delay_ = delay; }
    int attempts(expert_id expert) const {
        const std::lock_guard held(lock_);
        const auto found = attempts_.find(expert);
        return found == attempts_.end() ? 0 : found->second;
    }

private:
    std::uint64_t bytes_;
    std::chrono::microseconds delay_{0};
    mutable std::mutex lock_;
    std::condition_variable opened_;
    std::map<expert_id, int> attempts_, failures_left_;
    errc failure_ = errc::io_error;
    bool open_ = true, throws_ = false;
};

/// Until every missing expert of the wave is here, or one failed.
inline result<void> wait_all(expert_lease& lease) {
    while (true) {
        const auto some = lease.wait_some();
        if (!some)
            return tl::unexpected(some.error());
        if (some->empty())
            return {};
    }
}

/// Four layers, the first one dense, of sixteen experts with top 2; `slots` slots.
inline expert_store_options small_store(const slab_source& source, std::uint64_t slots) {
    expert_store_options options;
    options.layers = 4;
    options.moe_layers = 3;
    options.experts = 16;
    options.top_k = 2;
    options.slab_bytes = source.slab_bytes();
    options.budget_bytes = slots * source.slab_bytes();
    options.layout_id = 7;
    options.loader_threads = 1;
    return options;
}

} // namespace moira
