#include "core/execute/device_slots.hpp"

#include "core/execute/device.hpp"

#include <algorithm>

namespace moira {
namespace {

class device_slots final : public slot_memory {
public:
    explicit device_slots(device_buffer memory) : memory_(std::move(memory)), usable_bytes_(memory_.bytes()) {}

    std::uint64_t address() const noexcept override { return reinterpret_cast<std::uintptr_t>(memory_.as<void>()); }
    std::uint64_t usable_bytes() const noexcept override { return usable_bytes_; }
    std::uint64_t capacity_bytes() const noexcept override { return memory_.bytes(); }

    result<void> grow(std::uint64_t bytes) override {
        if (bytes > memory_.bytes())
            return fail(errc::out_of_memory, "the expert slots of this device hold " + std::to_string(memory_.bytes()) +
                                                 " bytes, not " + std::to_string(bytes) +
                                                 ": restart with the new budget");
        usable_bytes_ = std::max(usable_bytes_, bytes);
        return {};
    }

    void shrink(std::uint64_t bytes) noexcept override { usable_bytes_ = std::min(usable_bytes_, bytes); }

private:
    device_buffer memory_;
    std::uint64_t usable_bytes_;
};

} // namespace

slot_memory_maker make_device_slots(const op_provider& device, slot_place place, std::uint64_t alignment) {
    return [&device, place, alignment](std::uint64_t bytes, std::uint64_t) -> result<std::unique_ptr<slot_memory>> {
        auto memory = place == slot_place::device ? device_buffer::create(device, bytes, alignment)
                                                  : device_buffer::create_page_locked(device, bytes, alignment);
        if (!memory)
            return tl::unexpected(memory.error());
        return std::make_unique<device_slots>(std::move(*memory));
    };
}

} // namespace moira
