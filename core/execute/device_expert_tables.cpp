#include "core/execute/device_expert_tables.hpp"

#include <algorithm>

namespace moira {
namespace {

bool same(const moira_expert_entry& a, const moira_expert_entry& b) {
    return a.address == b.address && a.generation == b.generation && a.layout_id == b.layout_id;
}

} // namespace

result<device_expert_tables> device_expert_tables::create(const op_provider& memory, std::int32_t layers,
                                                          std::int32_t experts) {
    device_expert_tables made;
    made.experts_ = static_cast<std::size_t>(experts);
    made.copied_.resize(static_cast<std::size_t>(layers));
    made.known_.resize(made.copied_.size() * made.experts_);
    made.now_.resize(made.experts_);
    auto tables = device_buffer::create(memory, made.known_.size() * sizeof(moira_expert_entry));
    if (!tables)
        return tl::unexpected(tables.error());
    made.device_ = std::move(*tables);
    return made;
}

const moira_expert_entry* device_expert_tables::table(std::int32_t layer) const noexcept {
    return device_.as<moira_expert_entry>() + static_cast<std::size_t>(layer) * experts_;
}

result<const moira_expert_entry*> device_expert_tables::refresh(std::int32_t layer, const expert_store& store,
                                                                device_queue& queue) {
    const auto index = static_cast<std::size_t>(layer);
    store.copy_table(layer, now_);
    const auto known = std::span(known_).subspan(index * experts_, experts_);
    std::size_t first = 0, last = experts_;
    if (copied_[index]) {
        while (first < last && same(now_[first], known[first]))
            ++first;
        while (last > first && same(now_[last - 1], known[last - 1]))
            --last;
    }
    if (first == last)
        return table(layer);
    std::copy_n(now_.begin() + static_cast<std::ptrdiff_t>(first), last - first,
                known.begin() + static_cast<std::ptrdiff_t>(first));
    copied_[index] = false;
    auto* place = device_.as<moira_expert_entry>() + index * experts_ + first;
    if (auto done = queue.upload(place, known.data() + first, (last - first) * sizeof(moira_expert_entry)); !done)
        return tl::unexpected(done.error());
    copied_[index] = true;
    return table(layer);
}

} // namespace moira
