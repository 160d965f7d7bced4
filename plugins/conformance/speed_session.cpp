#include "plugins/conformance/speed_session.hpp"

#include "plugins/plugin_file.hpp"

#include <algorithm>

namespace moira {

speed_session::speed_session(const op_provider& provider) : provider_(provider), api_(*provider.api) {
    check(api_.stream_create(provider_.device, &stream_), "stream_create");
}

speed_session::~speed_session() {
    if (stream_) {
        api_.stream_synchronize(stream_);
        api_.stream_destroy(stream_);
    }
    for (moira_op* op : ops_)
        api_.op_destroy(op);
    for (moira_buffer* buffer : buffers_)
        api_.buffer_destroy(buffer);
}

bool speed_session::check(moira_status status, const char* call) {
    if (status != MOIRA_OK && failure_.empty())
        failure_ = std::string(call) + ": " + status_text(status) + ": " + read_last_error(api_);
    return failure_.empty();
}

void* speed_session::upload(const void* bytes, std::uint64_t count) {
    moira_buffer* buffer = nullptr;
    if (failed() ||
        !check(api_.buffer_create(provider_.device, std::max<std::uint64_t>(count, 64), 64, &buffer), "buffer_create"))
        return nullptr;
    buffers_.push_back(buffer);
    void* address = api_.buffer_address(buffer);
    if (check(api_.copy_to_device(stream_, address, bytes, count), "copy_to_device"))
        check(api_.stream_synchronize(stream_), "stream_synchronize");
    return address;
}

bool speed_session::supports(const moira_op_header& desc) const {
    moira_op_support support{};
    support.struct_size = sizeof support;
    return api_.op_query(provider_.device, &desc, &support) == MOIRA_OK && support.score > 0;
}

std::vector<std::byte> speed_session::pack(const moira_pack_desc& desc, const std::vector<moira_pack_source>& sources,
                                           std::uint32_t& layout_id) {
    moira_pack_info info{};
    info.struct_size = sizeof info;
    if (failed() || !check(api_.pack_query(provider_.device, &desc, &info), "pack_query"))
        return {};
    layout_id = info.layout_id;
    // Packing may want its memory aligned to a page at most.
    constexpr std::size_t page = 4096;
    std::vector<std::byte> room(info.packed_bytes + page), scratch(info.scratch_bytes + page);
    const auto aligned = [](std::vector<std::byte>& bytes) {
        const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
        return bytes.data() + (page - begin % page) % page;
    };
    std::byte* const packed = aligned(room);
    if (!check(api_.pack(provider_.device, &desc, sources.data(), packed, aligned(scratch)), "pack"))
        return {};
    return {packed, packed + info.packed_bytes};
}

const moira_op* speed_session::prepare(const moira_op_header& desc, void** workspace) {
    moira_op* op = nullptr;
    std::uint64_t bytes = 0;
    if (failed() || !check(api_.op_prepare(provider_.device, &desc, &op, &bytes), "op_prepare"))
        return nullptr;
    ops_.push_back(op);
    if (bytes > 0)
        *workspace = upload(std::vector<std::byte>(bytes).data(), bytes);
    return op;
}

template <class Queue>
double speed_session::time(double seconds, const Queue& queue) {
    using clock = std::chrono::steady_clock;
    const auto since = [](clock::time_point begin) {
        return std::chrono::duration<double>(clock::now() - begin).count();
    };
    if (failed() || !queue() || !check(api_.stream_synchronize(stream_), "stream_synchronize"))
        return 0;
    const auto once_begin = clock::now(); // warm now: how often it goes into `seconds`
    if (!queue() || !check(api_.stream_synchronize(stream_), "stream_synchronize"))
        return 0;
    const auto rounds = static_cast<std::uint32_t>(std::clamp(seconds / std::max(since(once_begin), 1e-6), 1.0, 1e5));
    const auto begin = clock::now();
    for (std::uint32_t round = 0; round < rounds; ++round)
        if (!queue())
            return 0;
    if (!check(api_.stream_synchronize(stream_), "stream_synchronize"))
        return 0;
    return since(begin) / rounds;
}

double speed_session::time_list(const std::vector<moira_launch>& list, double seconds) {
    const double once = time(seconds, [&] {
        return check(api_.launch(stream_, list.data(), static_cast<std::uint32_t>(list.size())), "launch");
    });
    return once * 1e6 / static_cast<double>(list.size());
}

double speed_session::time_copies(const std::vector<std::byte>& bytes, double seconds) {
    moira_buffer* host = nullptr;
    if (failed() || bytes.empty() ||
        !check(api_.host_buffer_create(provider_.device, bytes.size(), 64, &host), "host_buffer_create"))
        return 0;
    buffers_.push_back(host);
    void* const from = api_.buffer_address(host);
    std::copy(bytes.begin(), bytes.end(), static_cast<std::byte*>(from));
    constexpr std::size_t places = 8;
    std::vector<void*> to;
    for (std::size_t i = 0; i < places; ++i)
        to.push_back(upload(bytes));
    const double once = time(seconds, [&] {
        for (void* place : to)
            if (!check(api_.copy_to_device(stream_, place, from, bytes.size()), "copy_to_device"))
                return false;
        return true;
    });
    return once * 1e6 / places;
}

} // namespace moira
