#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <type_traits>

namespace moira {

/// A ring between one producer and one consumer in which the newest values win: a producer that laps the consumer
/// overwrites what nobody has read, never waits and allocates nothing. Everything pushed is popped exactly once or
/// counted as dropped, in order.
///
/// A slot is a sequence lock. Its payload is copied word by word through atomics, so that a torn copy is found by its
/// number and is no data race.
template <class Value>
class route_ring {
    static_assert(std::is_trivially_copyable_v<Value> && std::is_default_constructible_v<Value>);

public:
    /// Room for `capacity` values, at least 1.
    explicit route_ring(std::size_t capacity)
        : capacity_(capacity > 0 ? capacity : 1), slots_(std::make_unique<slot[]>(capacity_)) {}

    std::size_t capacity() const noexcept { return capacity_; }

    /// Producer only.
    void push(const Value& value) noexcept {
        std::array<std::uint64_t, words> copy{};
        std::memcpy(copy.data(), &value, sizeof value);
        const std::uint64_t number = pushed_.load(std::memory_order_relaxed);
        slot& target = slots_[number % capacity_];
        target.stamp.store(writing(number), std::memory_order_relaxed);
        // Release, so that whoever reads one of these words also sees the stamp above.
        for (std::size_t word = 0; word < words; ++word)
            target.payload[word].store(copy[word], std::memory_order_release);
        target.stamp.store(written(number), std::memory_order_release);
        pushed_.store(number + 1, std::memory_order_release);
    }

    /// Consumer only: the oldest value that is still there.
    std::optional<Value> pop() noexcept {
        while (true) {
            const std::uint64_t pushed = pushed_.load(std::memory_order_acquire);
            if (next_ == pushed)
                return std::nullopt;
            if (pushed - next_ > capacity_)
                drop(pushed - next_ - capacity_);
            if (auto value = read(next_)) {
                ++next_;
                return value;
            }
            drop(1); // overwritten while it was being copied
        }
    }

    /// Any thread; exact when neither side is at work.
    std::uint64_t pushed() const noexcept { return pushed_.load(std::memory_order_relaxed); }
    std::uint64_t dropped() const noexcept { return dropped_.load(std::memory_order_relaxed); }

private:
    static constexpr std::size_t words = (sizeof(Value) + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t);

    struct slot {
        std::atomic<std::uint64_t> stamp{0};
        std::array<std::atomic<std::uint64_t>, words> payload{};
    };

    static constexpr std::uint64_t writing(std::uint64_t number) noexcept { return 2 * number + 1; }
    static constexpr std::uint64_t written(std::uint64_t number) noexcept { return 2 * number + 2; }

    void drop(std::uint64_t count) noexcept {
        next_ += count;
        dropped_.store(dropped_.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
    }

    std::optional<Value> read(std::uint64_t number) const noexcept {
        const slot& source = slots_[number % capacity_];
        if (source.stamp.load(std::memory_order_acquire) != written(number))
            return std::nullopt;
        std::array<std::uint64_t, words> copy{};
        for (std::size_t word = 0; word < words; ++word)
            copy[word] = source.payload[word].load(std::memory_order_acquire);
        if (source.stamp.load(std::memory_order_relaxed) != written(number))
            return std::nullopt;
        Value value;
        std::memcpy(static_cast<void*>(&value), copy.data(), sizeof value);
        return value;
    }

    std::size_t capacity_;
    std::unique_ptr<slot[]> slots_;
    std::atomic<std::uint64_t> pushed_{0};
    std::uint64_t next_ = 0; // of the consumer
    std::atomic<std::uint64_t> dropped_{0};
};

} // namespace moira
