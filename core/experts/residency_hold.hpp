#pragma once

#include "core/experts/expert_store.hpp"

#include <cstdint>

namespace moira {

/// While it lives, every routed expert of the model stays in its slot: a resize waits for its end. For steps that do
/// not ask which experts they will use. Move-only; may be destroyed on any thread. Borrows the store.
class residency_hold {
public:
    residency_hold(residency_hold&& other) noexcept;
    residency_hold& operator=(residency_hold&& other) noexcept;
    ~residency_hold();

    /// Of the store's tables: the same number, the same entries.
    std::uint64_t table_version() const noexcept { return version_; }

private:
    friend class expert_store;
    residency_hold(expert_store& store, std::uint64_t version) noexcept : store_(&store), version_(version) {}

    expert_store* store_;
    std::uint64_t version_;
};

} // namespace moira
