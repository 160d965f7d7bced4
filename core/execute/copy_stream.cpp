#include "core/execute/copy_stream.hpp"

#include "core/execute/device.hpp"

#include <chrono>
#include <thread>
#include <utility>

namespace moira {
namespace {

/// Between two questions whether a copy is done. An expert of 10 MB travels for 200 to 400 us, and several are on their
/// way: a later answer leaves no link idle, and a sleeping thread leaves its core to others.
constexpr auto poll_pause = std::chrono::microseconds(20);

} // namespace

result<copy_stream> copy_stream::create(const op_provider& device) {
    copy_stream made(device);
    auto status = device.api->stream_create(device.device, &made.stream_);
    if (status == MOIRA_OK)
        status = device.api->event_create(device.device, &made.copied_);
    if (status != MOIRA_OK)
        return tl::unexpected(plugin_error(device, status, "creating a stream for copies"));
    return made;
}

copy_stream::copy_stream(copy_stream&& other) noexcept
    : device_(other.device_), stream_(std::exchange(other.stream_, nullptr)),
      copied_(std::exchange(other.copied_, nullptr)) {}

copy_stream& copy_stream::operator=(copy_stream&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(stream_, other.stream_);
    std::swap(copied_, other.copied_);
    return *this;
}

copy_stream::~copy_stream() {
    if (copied_)
        device_->api->event_destroy(copied_);
    if (stream_)
        device_->api->stream_destroy(stream_);
}

moira_status copy_stream::queue(void* device_address, const void* host_address, std::uint64_t bytes) {
    const auto status = device_->api->copy_to_device(stream_, device_address, host_address, bytes);
    return status == MOIRA_OK ? device_->api->event_record(stream_, copied_) : status;
}

moira_status copy_stream::wait() {
    while (true) {
        std::uint32_t done = 0;
        if (const auto status = device_->api->event_done(copied_, &done); status != MOIRA_OK || done)
            return status;
        std::this_thread::sleep_for(poll_pause);
    }
}

result<void> copy_stream::copy(void* device_address, const void* host_address, std::uint64_t bytes) {
    auto status = queue(device_address, host_address, bytes);
    if (status == MOIRA_OK)
        status = wait();
    if (status == MOIRA_OK)
        return {};
    auto why = plugin_error(*device_, status, "copying an expert to the device");
    static_cast<void>(device_->api->stream_synchronize(stream_)); // the range may be somebody else's next
    return tl::unexpected(std::move(why));
}

} // namespace moira
