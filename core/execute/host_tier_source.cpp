#include "core/execute/host_tier_source.hpp"

namespace moira {

host_tier_source::host_tier_source(expert_store& host, const op_provider& device, std::uint64_t slab_bytes)
    : host_(host), device_(device), slab_bytes_(slab_bytes) {}

result<copy_stream> host_tier_source::take_stream() {
    {
        const std::lock_guard held(lock_);
        if (!idle_.empty()) {
            auto taken = std::move(idle_.back());
            idle_.pop_back();
            return taken;
        }
    }
    return copy_stream::create(device_);
}

result<void> host_tier_source::load(expert_id expert, std::span<std::byte> slab, std::span<std::byte>) {
    auto lease = host_.acquire(expert.layer, {&expert.expert, 1});
    if (!lease)
        return tl::unexpected(lease.error());
    if (auto arrived = lease->wait_some(); !arrived)
        return tl::unexpected(arrived.error());
    auto stream = take_stream();
    if (!stream)
        return tl::unexpected(stream.error());
    const auto address = static_cast<std::uintptr_t>(host_.table(expert.layer)[expert.expert].address);
    auto copied = stream->copy(slab.data(), reinterpret_cast<const void*>(address), slab_bytes_);
    const std::lock_guard held(lock_);
    idle_.push_back(std::move(*stream));
    return copied;
}

} // namespace moira
