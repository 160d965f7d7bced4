#include "plugins/conformance/device_session.hpp"

#include "plugins/plugin_file.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

namespace moira {
namespace {

constexpr std::uint64_t guard_bytes = 64;
constexpr std::byte guard{0xa5};

struct aligned_free {
    void operator()(std::byte* address) const { ::operator delete[](address, std::align_val_t{4096}); }
};
using aligned_bytes = std::unique_ptr<std::byte[], aligned_free>;

/// Aligned for whatever a plugin may ask of packed memory, up to a page.
aligned_bytes allocate_page_aligned(std::uint64_t bytes) {
    auto* address =
        static_cast<std::byte*>(::operator new[](std::max<std::uint64_t>(bytes, 1), std::align_val_t{4096}));
    return aligned_bytes(address);
}

} // namespace

device_session::device_session(const op_provider& provider) : provider_(provider), api_(*provider.api) {
    check(api_.stream_create(provider_.device, &stream_), "stream_create");
}

device_session::~device_session() {
    if (stream_) {
        api_.stream_synchronize(stream_);
        api_.stream_destroy(stream_);
    }
    for (moira_op* op : ops_)
        api_.op_destroy(op);
    for (const allocation& each : allocations_)
        api_.buffer_destroy(each.buffer);
}

bool device_session::check(moira_status status, const char* call) {
    if (status != MOIRA_OK && failure_.empty())
        failure_ = std::string(call) + ": " + status_text(status) + ": " + read_last_error(api_);
    return failure_.empty();
}

void* device_session::upload_bytes(const void* bytes, std::uint64_t count, std::uint64_t alignment) {
    moira_buffer* buffer = nullptr;
    if (failed() || !check(api_.buffer_create(provider_.device, count + guard_bytes,
                                              std::max<std::uint64_t>(alignment, 64), &buffer),
                           "buffer_create"))
        return nullptr;
    auto* address = static_cast<std::byte*>(api_.buffer_address(buffer));
    allocations_.push_back({buffer, address, count});
    std::vector<std::byte>& staged = in_flight_.emplace_back(count + guard_bytes, guard);
    if (count > 0)
        std::memcpy(staged.data(), bytes, count);
    check(api_.copy_to_device(stream_, address, staged.data(), staged.size()), "copy_to_device");
    return address;
}

void device_session::download_bytes(void* to, const void* from, std::uint64_t bytes) {
    if (failed() || bytes == 0)
        return;
    check(api_.copy_to_host(stream_, to, from, bytes), "copy_to_host");
    // Also when the copy failed: nothing may be in flight when `to` goes away.
    const moira_status status = api_.stream_synchronize(stream_);
    check(status == MOIRA_STEP_ERROR ? MOIRA_OK : status, "stream_synchronize");
}

packed_weight device_session::pack(const moira_pack_desc& desc, std::span<const moira_pack_source> sources) {
    moira_pack_info info{};
    info.struct_size = sizeof info;
    if (failed() || !check(api_.pack_query(provider_.device, &desc, &info), "pack_query"))
        return {};
    const aligned_bytes packed = allocate_page_aligned(info.packed_bytes);
    const aligned_bytes scratch = allocate_page_aligned(info.scratch_bytes);
    if (!check(api_.pack(provider_.device, &desc, sources.data(), packed.get(), scratch.get()), "pack"))
        return {};
    return {upload_bytes(packed.get(), info.packed_bytes, info.alignment), info.layout_id};
}

const moira_op* device_session::prepare(const moira_op_header& desc, void** workspace) {
    moira_op* op = nullptr;
    std::uint64_t bytes = 0;
    if (failed() || !check(api_.op_prepare(provider_.device, &desc, &op, &bytes), "op_prepare"))
        return nullptr;
    ops_.push_back(op);
    if (bytes > 0)
        *workspace = upload_bytes(std::vector<std::byte>(bytes, guard).data(), bytes);
    return op;
}

void device_session::launch(const std::vector<moira_launch>& list) {
    if (!failed())
        check(api_.launch(stream_, list.data(), static_cast<std::uint32_t>(list.size())), "launch");
}

moira_error_word device_session::finish() {
    moira_error_word word{};
    if (!stream_)
        return word;
    const moira_status status = api_.stream_synchronize(stream_);
    in_flight_.clear();
    check(status == MOIRA_STEP_ERROR ? MOIRA_OK : status, "stream_synchronize");
    if (!failed())
        check(api_.stream_error(stream_, &word), "stream_error");
    check_guards();
    return word;
}

void device_session::check_guards() {
    for (const allocation& each : allocations_) {
        if (failed())
            return;
        const auto behind = download(each.address + each.bytes, guard_bytes);
        if (!failed() && std::any_of(behind.begin(), behind.end(), [](std::byte b) { return b != guard; }))
            failure_ = "a kernel wrote behind a buffer of " + std::to_string(each.bytes) + " bytes";
    }
}

} // namespace moira
